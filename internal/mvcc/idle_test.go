package mvcc

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// openViews opens so many views, reads a key by each, and returns their iterators and what closes them.
func openViews(t *testing.T, s *Store, n int, key, want string) (its map[*storage.Iterator]bool, done func()) {
	t.Helper()
	its = map[*storage.Iterator]bool{}
	var views []*View
	for range n {
		v, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(one(t, v, key).Value()); got != want {
			t.Errorf("a view reads %q, want %q", got, want)
		}
		its[v.snap.it] = true
		views = append(views, v)
	}
	return its, func() {
		t.Helper()
		for _, v := range views {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAnIteratorServesViewsOfOneStateOnly(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1")
	first, done := openViews(t, s, 1, "a", "1")
	done()
	again, done := openViews(t, s, 1, "a", "1")
	done()
	for it := range first {
		if !again[it] {
			t.Error("a second view of the same state opened another iterator")
		}
	}
	put(t, s, "a", "2")
	_, done = openViews(t, s, 1, "a", "2")
	put(t, s, "a", "3")
	done() // what the older view had is not kept
	_, done = openViews(t, s, 2, "a", "3")
	done()
}

func TestAnIteratorWithNarrowBoundsIsKeptWithoutThem(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "2", "c", "3")
	read(t, s, RangeOptions{Key: []byte("b"), End: []byte("c")})
	_, done := openViews(t, s, 1, "c", "3")
	done()
	if len(s.idle.waiting) != 1 {
		t.Fatalf("%d iterators wait", len(s.idle.waiting))
	}
}

func TestNoMoreIteratorsWaitThanTheBound(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1")
	_, done := openViews(t, s, 2*idleMax, "a", "1")
	done()
	if n := len(s.idle.waiting); n != idleMax {
		t.Errorf("%d iterators wait, want %d", n, idleMax)
	}
}

func TestIteratorsThatNobodyTakesAreClosedAfterAWhile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var later []func()
	s.KeepIterators(func(f func()) { later = append(later, f) })
	put(t, s, "a", "1")
	for round := range 2 {
		for range 3 {
			_, done := openViews(t, s, 2, "a", "1")
			done()
		}
		if len(later) != round+1 || len(s.idle.waiting) != 2 {
			t.Fatalf("round %d: called %d times, %d wait", round, len(later), len(s.idle.waiting))
		}
		later[round]()
		if len(s.idle.waiting) != 0 {
			t.Errorf("round %d: %d wait after the while", round, len(s.idle.waiting))
		}
	}
}

// TestARetiredStoreKeepsNoIterator: Pebble refuses to close a database of which an iterator is open.
func TestARetiredStoreKeepsNoIterator(t *testing.T) {
	t.Parallel()
	s, end := openStore(t, vfs.NewMem(), smallRuns)
	put(t, s, "a", "1")
	_, done := openViews(t, s, 3, "a", "1")
	done()
	_, done = openViews(t, s, 1, "a", "1")
	closed := false
	s.Retire(func() { closed = true; end() })
	if closed {
		t.Fatal("the database was closed under a view")
	}
	done()
	if !closed || len(s.idle.waiting) != 0 {
		t.Errorf("closed %v, %d iterators wait", closed, len(s.idle.waiting))
	}
}

// TestNoViewIsOlderThanItsBeginning: readers beside a writer see at least what was published when they began, with iterators that
// are closed at any moment.
func TestNoViewIsOlderThanItsBeginning(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var resting sync.WaitGroup
	s.KeepIterators(func(f func()) { resting.Go(f) })
	put(t, s, "a", "0")
	const puts = 2000
	var published atomic.Int64
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for published.Load() < puts {
				least := published.Load()
				v, err := s.View(0)
				if err != nil {
					t.Error(err)
					return
				}
				kv, _, err := v.Get([]byte("a"))
				got, bad := strconv.ParseInt(string(kv.Value()), 10, 64)
				if err != nil || bad != nil || got < least || got < v.Current()-2 {
					t.Errorf("a view at revision %d that began after put %d reads %q (%v)", v.Current(), least, kv.Value(), err)
				}
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for n := int64(1); n <= puts; n++ {
		put(t, s, "a", strconv.FormatInt(n, 10))
		published.Store(n)
	}
	readers.Wait()
	resting.Wait()
}
