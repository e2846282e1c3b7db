package mvcc

import (
	"fmt"
	"testing"
)

// sparing puts so many keys in one group, some of them twice, has it read ahead before and range in between, and ends it.
func sparing(t *testing.T, s *Store, keys int, discard bool) {
	t.Helper()
	w := s.NewWriter()
	key := func(i int) []byte { return fmt.Appendf(nil, "key%05d", i) }
	for i := range keys {
		w.Expect(key(i), i%2 == 0)
	}
	must(t, w.ReadAhead())
	w.Begin()
	for i := range keys {
		must(t, w.PutBlind(key(i), []byte("value"), 0))
		if i%5 == 0 {
			must(t, w.PutBlind(key(i/2), []byte("value"), 0))
		}
		if i == keys/2 {
			_, err := w.Range(RangeOptions{Key: []byte{0}, End: []byte{0}}, func(KV) error { return nil })
			must(t, err)
		}
	}
	w.End()
	if discard {
		w.Discard()
	} else {
		must(t, w.Commit())
	}
	w.Release()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTheMemoryOfAGroupServesTheNextAndHoldsNothing looks at what is kept, up to its capacity.
func TestTheMemoryOfAGroupServesTheNextAndHoldsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		keys    int
		discard bool
		kept    bool
	}{
		{"one key", 1, false, true},
		{"some keys that are committed", 300, false, true},
		{"some keys that are discarded", 300, true, true},
		{"more keys than are kept", 2000, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			sparing(t, s, c.keys, c.discard)
			sparing(t, s, c.keys, c.discard)
			p := &s.spare
			for i, x := range p.over.slab[:cap(p.over.slab)] {
				if x.key != nil || x.newest.raw != nil || x.newest.older != nil {
					t.Fatalf("place %d of the overlay holds %q", i, x.key)
				}
			}
			for i, x := range p.over.fresh[:cap(p.over.fresh)] {
				if x != nil {
					t.Fatalf("new key %d of the overlay is %q", i, x.key)
				}
			}
			for i, x := range p.events[:cap(p.events)] {
				if x.Key != nil || x.raw != nil {
					t.Fatalf("event %d is of %q", i, x.Key)
				}
			}
			for i, x := range p.expected[:cap(p.expected)] {
				if x.key != nil {
					t.Fatalf("expected key %d is %q", i, x.key)
				}
			}
			for i := range p.keys[:cap(p.keys)] {
				if x := &p.keys[:cap(p.keys)][i]; x.key != nil || x.raw != nil {
					t.Fatalf("key %d that was read ahead is %q", i, x.key)
				}
			}
			if len(p.over.byKey)+len(p.over.slab)+len(p.over.fresh)+cap(p.over.sorted) != 0 {
				t.Error("the overlay is not empty")
			}
			for name, kept := range map[string]bool{
				"map": p.over.byKey != nil, "places": cap(p.over.slab) > 0, "new keys": cap(p.over.fresh) > 0,
				"events": cap(p.events) > 0, "expected keys": cap(p.expected) > 0,
			} {
				if kept != c.kept {
					t.Errorf("memory of %s is kept: %v, want %v", name, kept, c.kept)
				}
			}
		})
	}
}

// TestSmallGroupsDoNotEmptyTheMemoryOfALargeOneForever: to empty a map costs what it has room for.
func TestSmallGroupsDoNotEmptyTheMemoryOfALargeOneForever(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sparing(t, s, 300, false)
	for i := range overlayFew {
		if s.spare.over.most != 300 {
			t.Fatalf("after %d small groups the memory is one of %d keys", i, s.spare.over.most)
		}
		sparing(t, s, 1, false)
	}
	if s.spare.over.most > 1 || s.spare.over.byKey != nil {
		t.Errorf("after %d small groups the memory is one of %d keys", overlayFew, s.spare.over.most)
	}
}

// TestADiscardedGroupIsForgotten reads by the next Writer, which has the memory of the one before.
func TestADiscardedGroupIsForgotten(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "key00000", "before")
	sparing(t, s, 20, true)
	w := s.NewWriter()
	defer w.Discard()
	w.Begin()
	kv, found, err := w.Get([]byte("key00000"))
	if err != nil || !found || string(kv.Value()) != "before" {
		t.Errorf("the key is %q, %v (%v)", kv.Value(), found, err)
	}
	if _, found, err := w.Get([]byte("key00001")); found || err != nil {
		t.Errorf("a key that was discarded is there: %v (%v)", found, err)
	}
	must(t, w.PutBlind([]byte("key00001"), nil, 0))
	if n := len(w.Events()); n != 1 {
		t.Errorf("%d events", n)
	}
}
