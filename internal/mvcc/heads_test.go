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

func TestManyHeadsAreFoundAtOnceAsOneByOne(t *testing.T) {
	t.Parallel()
	for name, puts := range map[string]int{"nothing is remembered": 0, "a few are": 100, "many are": 100_000, "the ring has been full": 900_000} {
		var h heads
		for i := range puts {
			key, x := headOfKey(i)
			h.put(key, x)
		}
		r := rand.New(rand.NewPCG(1, 2))
		keys := make([]expectedKey, 10*headsAtOnce+1)
		for i := range keys {
			key, _ := headOfKey(r.IntN(2*puts + 1))
			keys[i].key = key
		}
		h.find(keys)
		found := 0
		for _, x := range keys {
			want, ok := h.get(x.key)
			if x.remembered != ok || x.head != want {
				t.Errorf("%s: %s is found as %+v (%v), want %+v (%v)", name, x.key, x.head, x.remembered, want, ok)
			}
			if ok {
				found++
			}
		}
		if puts > 0 && (found < len(keys)/10 || found > len(keys)*9/10) {
			t.Errorf("%s: %d of %d keys are found, which tells nothing of the others", name, found, len(keys))
		}
	}
}

// A key that is forgotten is read from the database, which takes as long as some ten puts.
func TestFewOfTheKeysThatAreThereAreForgotten(t *testing.T) {
	t.Parallel()
	for _, keys := range []int{10_000, 100_000, 200_000} {
		var h heads
		for i := range keys {
			key, x := headOfKey(i)
			h.put(key, x)
		}
		forgotten := 0
		for i := range keys {
			key, _ := headOfKey(i)
			if _, ok := h.get(key); !ok {
				forgotten++
			}
		}
		if forgotten > keys/100 {
			t.Errorf("%d of %d keys are forgotten", forgotten, keys)
		}
	}
}

func TestTheRingGrowsWithTheKeysAndNotWithThePuts(t *testing.T) {
	t.Parallel()
	var h heads
	const keys, rounds = 1000, 500
	for i := range rounds {
		for n := range keys {
			key, x := headOfKey(n)
			x.at.Main, x.version = int64(1+i*keys+n), int64(1+i)
			h.put(key, x)
		}
	}
	// Numbers grow by a byte a few times, and what is put out of a full set comes back. All puts one after another would take 12 MB.
	if most := uint64(1 << 20); h.end > most {
		t.Errorf("%d puts to %d keys take %d bytes, want at most %d", rounds*keys, keys, h.end, most)
	}
	found := 0
	for n := range keys {
		key, _ := headOfKey(n)
		got, ok := h.get(key)
		if ok && got.version != rounds {
			t.Fatalf("%s is remembered as %+v, want version %d", key, got, rounds)
		}
		if ok {
			found++
		}
	}
	if found < keys*9/10 {
		t.Errorf("%d of %d keys are remembered", found, keys)
	}
}

func TestAHeadThatTheRingWillSoonWriteOverMoves(t *testing.T) {
	t.Parallel()
	var h heads
	key, x := headOfKey(1)
	h.put(key, x)
	for n := 2; h.end < headRing/4*3; n++ {
		h.put(headOfKey(n))
	}
	h.put(key, x)
	for n := 2; h.end < headRing/4*5; n++ {
		other, y := headOfKey(n)
		h.put(append(other, "other"...), y)
	}
	if got, ok := h.get(key); !ok || got != x {
		t.Errorf("a key put half a ring ago is remembered as %+v (%v), want %+v", got, ok, x)
	}
}

func TestAHeadIsReplacedByOneOfItsLengthAlone(t *testing.T) {
	t.Parallel()
	short := head{at: Revision{Main: 5}, create: 1, version: 1, size: 9}
	for name, c := range map[string]struct {
		by   head
		want bool
	}{
		"as long":                       {head{at: Revision{Main: 127, Sub: 3}, create: 2, version: 100, size: 1, lease: 4}, true},
		"longer":                        {head{at: Revision{Main: 128}, create: 1, version: 1, size: 9}, false},
		"longer and shorter at once":    {head{at: Revision{Main: 1 << 40}}, false},
		"with a lease below 0":          {head{at: Revision{Main: 5}, lease: -1}, false},
		"a deleted one, which is short": {head{}, true},
	} {
		// Behind the last record is nothing yet, or what the ring wrote there before.
		for _, behind := range []byte{0, 1, 0xff} {
			b := append(appendHead(nil, short), bytes.Repeat([]byte{behind}, headMax)...)
			before := bytes.Clone(b)
			got := replaceHead(b, c.by)
			if got != c.want {
				t.Errorf("%s: replaced: %v, want %v", name, got, c.want)
			}
			if got && decodeHead(b) != c.by || !got && !bytes.Equal(b, before) || !bytes.Equal(b[6:], before[6:]) {
				t.Errorf("%s: then it is %x, before %x", name, b, before)
			}
		}
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
