package mvcc

import (
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// versionsLeft counts the versions of all keys that are in data.
func versionsLeft(t *testing.T, s *Store) (n int) {
	t.Helper()
	it, err := s.db.NewIter(&storage.IterOptions{LowerBound: dataLower, UpperBound: dataUpper})
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestASliceLeavesWhatIsAboveItsBound, although it is compacted, too.
func TestASliceLeavesWhatIsAboveItsBound(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "k", "2", "k", "3", "k", "4", "k", "5") // their revisions
	schedule(t, s, 5)
	for i, step := range []struct {
		upTo   int64
		slice  int
		stored int
		done   bool
	}{
		{1, 10, 4, false},
		{3, 10, 3, false},
		{3, 10, 3, false}, // nothing is left of it
		{2, 10, 3, false}, // it has come further
		{4, 2, 2, false},
		{4, 10, 2, false},
		{9, 10, 1, true}, // above the compact revision
		{9, 10, 1, true},
	} {
		done, err := s.CompactStepTo(t.Context(), step.upTo, step.slice)
		if n := versionsLeft(t, s); err != nil || done != step.done || n != step.stored {
			t.Fatalf("slice %d, up to %d: done %v, %d versions are left, %v; want %v and %d", i, step.upTo, done, n, err, step.done, step.stored)
		}
	}
}

// TestACompactionCountsWhatItRemovesOnce, although it handles again what the one before, or the slice before, came to last.
func TestACompactionCountsWhatItRemovesOnce(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "2", "a", "3", "b", "4")
	del(t, s, "b", "") // 5
	put(t, s, "c", "6")
	for _, c := range []struct{ rev, removed int64 }{
		{3, 1},
		{5, 2}, // the delete itself stays
		{6, 3},
	} {
		compact(t, s, c.rev)
		if n := s.Stats().Removed; n != uint64(c.removed) {
			t.Errorf("compacted to %d, it counts %d, want %d", c.rev, n, c.removed)
		}
	}
	if committed, compacted := s.Progress(); committed != 5 || compacted < 5 {
		t.Errorf("it has looked at %d of %d changes, want each of 5 once at least", compacted, committed)
	}
	put(t, s, "a", "7", "a", "8", "a", "9")
	schedule(t, s, 9)
	committed, before := s.Progress()
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(t.Context(), 2); err != nil { // the last of one slice is the first of the next
			t.Fatal(err)
		}
	}
	if n := s.Stats().Removed; n != 6 {
		t.Errorf("compacted in slices, it counts %d, want 6", n)
	}
	if _, after := s.Progress(); committed != 8 || after-before < 3 {
		t.Errorf("of %d changes it has looked at %d of the last 3", committed, after-before)
	}
}
