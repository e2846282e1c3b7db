package mvcc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func headOfKey(i int) ([]byte, head) {
	return fmt.Appendf(nil, "key-%d", i), head{
		at: Revision{Main: int64(i + 1), Sub: uint32(i % 3)}, create: int64(i), version: 1 << (i % 63), size: i * 7, lease: int64(-i),
	}
}

func TestHeadsForgetTheOldest(t *testing.T) {
	t.Parallel()
	var h heads
	long := func(i int) ([]byte, head) {
		key, x := headOfKey(i)
		return append(key, strings.Repeat("k", headKeyMax-len(key))...), x
	}
	n := 0
	for ; h.end < headRing+headRing/2; n++ {
		h.put(long(n))
	}
	found := 0
	for i := range n {
		key, want := long(i)
		got, ok := h.get(key)
		switch {
		case ok && got != want:
			t.Fatalf("key %d is remembered as %+v, want %+v", i, got, want)
		case ok && i < n/4:
			t.Fatalf("key %d of %d is still remembered", i, n)
		case ok:
			found++
		}
	}
	// Two thirds are in the ring; sets that are full forget some of them sooner.
	if found < n/2 {
		t.Errorf("%d of %d keys are remembered", found, n)
	}
}

func TestTheNewestHeadOfAKeyCounts(t *testing.T) {
	t.Parallel()
	var h heads
	want := map[int]head{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200_000 {
		n := r.IntN(20_000)
		key, x := headOfKey(n)
		if x.at.Main = int64(i + 1); r.IntN(5) == 0 {
			x = head{} // deleted
		}
		h.put(key, x)
		want[n] = x
		n = r.IntN(20_000)
		key, _ = headOfKey(n)
		if got, ok := h.get(key); ok && got != want[n] {
			t.Fatalf("%s is remembered as %+v, want %+v", key, got, want[n])
		}
	}
	found := 0
	for n := range want {
		key, _ := headOfKey(n)
		if _, ok := h.get(key); ok {
			found++
		}
	}
	if found < len(want)*9/10 {
		t.Errorf("%d of %d keys are remembered, and the ring was never full", found, len(want))
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
