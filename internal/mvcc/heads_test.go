package mvcc

import (
	"bytes"
	"fmt"
	"testing"
)

func TestHeadsForgetTheOldestHalf(t *testing.T) {
	t.Parallel()
	var h heads
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%d", i) }
	for i := range 3 * headsMax {
		h.set(key(i), head{at: Revision{Main: int64(i + 1)}})
		if n := len(h.young) + len(h.old); n > 2*headsMax {
			t.Fatalf("%d keys are remembered", n)
		}
	}
	if _, ok := h.get(key(0)); ok {
		t.Error("the first key is still remembered")
	}
	x, ok := h.get(key(3*headsMax - 1))
	if !ok || x.at.Main != 3*headsMax {
		t.Errorf("the last key: %v, %v", x, ok)
	}
	h.set(key(2*headsMax), head{at: Revision{Main: 9}})
	if x, _ := h.get(key(2 * headsMax)); x.at.Main != 9 {
		t.Errorf("an older entry hides a newer one: %v", x)
	}
}

func TestLongKeysAreNotRemembered(t *testing.T) {
	t.Parallel()
	var h heads
	var o overlay
	for _, n := range []int{headKeyMax, headKeyMax + 1} {
		key := bytes.Repeat([]byte("k"), n)
		f := fields{key: key, create: 2, mod: 2, version: 1}
		o.add(key, false, version{rev: Revision{Main: 2}, raw: f.append(nil)})
	}
	h.learn(&o)
	for n, want := range map[int]bool{headKeyMax: true, headKeyMax + 1: false} {
		if _, ok := h.get(bytes.Repeat([]byte("k"), n)); ok != want {
			t.Errorf("a key of %d bytes is remembered: %v", n, ok)
		}
	}
}
