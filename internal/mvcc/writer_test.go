package mvcc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestEntriesTakeRevisions(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if s.Revision() != 1 || s.CompactRevision() != -1 {
		t.Fatalf("an empty store is at %d, compacted to %d", s.Revision(), s.CompactRevision())
	}
	if rev, changed := entry(t, s, func(w *Writer) {
		if n, err := w.DeleteRange([]byte("a"), []byte{0}, nil); n != 0 || err != nil {
			t.Errorf("deleted %d, %v", n, err)
		}
	}); rev != 1 || changed {
		t.Errorf("an entry that changes nothing ended at %d, %v", rev, changed)
	}
	put(t, s, "a", "1")
	entry(t, s, func(w *Writer) {
		for _, step := range []func() error{
			func() error { _, err := w.DeleteRange([]byte("a"), nil, nil); return err },
			func() error { _, _, err := w.Put([]byte("a"), []byte("2"), 0); return err },
			func() error { _, _, err := w.Put([]byte("b"), nil, 9); return err },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		if w.Revision() != 3 {
			t.Errorf("within the entry the revision is %d", w.Revision())
		}
	})
	if got, want := read(t, s, RangeOptions{Key: []byte{0}, End: []byte{0}}), "a=2@3/3/1 b=@3/3/1(9) count 2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var got []string
	err := s.History(1, 100, func(e Event) error {
		prev, found, err := e.LoadPrev()
		got = append(got, fmt.Sprintf("%d %s %v %v %v %s", e.Kind, e.Key, e.Rev, e.Prev, found, prev.Value()))
		return err
	})
	want := "0 a {2 0} {0 0} false |1 a {3 0} {2 0} true 1|0 a {3 1} {0 0} false |0 b {3 2} {0 0} false "
	if text := strings.Join(got, "|"); err != nil || text != want {
		t.Errorf("history %s (%v), want %s", text, err, want)
	}
}

func TestTheChangeOfASmallGroupKeepsNothingElseInMemory(t *testing.T) {
	t.Parallel()
	var h heap
	for i, n := range []int{200, 300, 300, 20} {
		if b := h.alloc(n); len(b) != n || cap(b) != n {
			t.Fatalf("%d bytes are %d of %d", n, len(b), cap(b))
		}
		if alone := len(h.free) == 0; alone != (i == 0) {
			t.Errorf("piece %d: %d bytes are left behind it", i, len(h.free))
		}
	}
}

func TestEventsOutliveTheGroup(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "gone", "x")
	w := s.NewWriter()
	for i := range 300 {
		w.Begin()
		if _, _, err := w.Put(fmt.Appendf(nil, "key%d", i), fmt.Appendf(nil, "value%d", i), 0); err != nil {
			t.Fatal(err)
		}
		w.End()
	}
	w.Begin()
	if _, err := w.DeleteRange([]byte("gone"), nil, nil); err != nil {
		t.Fatal(err)
	}
	w.End()
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	events := w.Events()
	for i, e := range events[:300] {
		kv, err := e.Load()
		if want := fmt.Sprintf("key%d=value%d@%d/%d/1", i, i, i+3, i+3); err != nil || kvText(kv) != want {
			t.Fatalf("event %d is %s (%v), want %s", i, kvText(kv), err, want)
		}
	}
	last := events[300]
	if last.Kind != EventDelete || string(last.Key) != "gone" || last.Prev != (Revision{Main: 2}) {
		t.Errorf("the last event is %+v", last)
	}
}

func TestRefusedChangesLeaveNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "2")
	no := errors.New("no")
	entry(t, s, func(w *Writer) {
		if _, _, err := w.Put(nil, []byte("v"), 0); err == nil {
			t.Error("a put of the empty key passed")
		}
		if _, err := w.DeleteRange([]byte("a"), []byte("c"), func(KV) error { return no }); err != no {
			t.Errorf("a refused deletion: %v", err)
		}
		for rev, want := range map[int64]error{-1: ErrCompacted, 4: ErrFutureRevision} {
			if err := w.ScheduleCompact(rev); !errors.Is(err, want) {
				t.Errorf("compaction to %d: %v", rev, err)
			}
		}
	})
	if s.Revision() != 3 || s.CompactPending() {
		t.Errorf("at %d, compaction pending %v", s.Revision(), s.CompactPending())
	}
	compact(t, s, 0) // etcd lets this pass on a store never compacted
	if s.CompactRevision() != 0 {
		t.Errorf("compacted to %d", s.CompactRevision())
	}
}

func TestATombstoneAtTheCompactRevisionStaysForWatchers(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", "1", "b", "1")
	del(t, s, "a", "") // revision 4
	count := func(from int64) (n int) {
		if err := s.History(from, 100, func(Event) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	compact(t, s, 4)
	if count(4) != 1 {
		t.Error("the tombstone at the compact revision is gone")
	}
	put(t, s, "b", "2")
	compact(t, s, 5)
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, found, err := v.snap.at([]byte("a"), Revision{Main: 4}); found || err != nil || count(5) != 1 {
		t.Errorf("after the next compaction the tombstone is found: %v (%v); history has %d from 5 on", found, err, count(5))
	}
}

func TestRunsAreBuiltWhenTheyAreMissing(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s, done := openStore(t, fs, smallRuns)
	for i := range 40 {
		put(t, s, fmt.Sprintf("k%02d", i), "v")
	}
	b := s.db.NewBatch()
	for _, c := range s.now.Load().runs.chunks {
		for _, r := range c.runs {
			if err := deleteRun(b, r.first); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.db.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	done()
	s, done = openStore(t, fs, smallRuns)
	defer done()
	checkStore(t, s)
	if got := read(t, s, RangeOptions{Key: []byte("k05"), End: []byte("k30"), CountOnly: true}); got != "count 25" {
		t.Error(got)
	}
}

// TestViewsHoldWhileOthersWriteAndCompact reads totals that a consistent view must show, beside a writer that moves
// one key at a time in transactions and a compactor that follows it.
func TestViewsHoldWhileOthersWriteAndCompact(t *testing.T) {
	t.Parallel()
	const keys, rounds = 60, 400
	s := newStore(t)
	entry(t, s, func(w *Writer) {
		for i := range keys {
			if _, _, err := w.Put(fmt.Appendf(nil, "k%03d", i), []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := readTotals(s, keys); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := s.CompactStep(context.Background(), 7); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	r := rand.New(rand.NewPCG(1, 1))
	live := keys
	for i := range rounds {
		entry(t, s, func(w *Writer) { moveKey(t, w, r, live) })
		if i%20 == 19 {
			entry(t, s, func(w *Writer) {
				if err := w.ScheduleCompact(w.Revision() - int64(r.IntN(3))); err != nil {
					t.Error(err)
				}
			})
		}
	}
	close(stop)
	others.Wait()
}

// moveKey deletes the first key and puts a new one somewhere, in one entry.
func moveKey(t *testing.T, w *Writer, r *rand.Rand, live int) {
	var first []byte
	o := RangeOptions{Key: []byte{0}, End: []byte{0}, Limit: 1}
	res, err := w.Range(o, func(kv KV) error { first = append(first, kv.Key()...); return nil })
	if err != nil || res.Count != int64(live) {
		t.Errorf("the writer counts %d keys (%v), want %d", res.Count, err, live)
	}
	if n, err := w.DeleteRange(first, nil, nil); n != 1 || err != nil {
		t.Errorf("deleted %d (%v)", n, err)
	}
	if _, _, err := w.Put(fmt.Appendf(nil, "n%08d", r.IntN(1e8)), []byte("v"), 0); err != nil {
		t.Error(err)
	}
}

// readTotals opens views at the newest and at an older revision: both show all keys, by walking and by counting.
func readTotals(s *Store, keys int64) error {
	for _, back := range []int64{0, 2} {
		v, err := s.View(0)
		if err != nil {
			return err
		}
		walked := int64(0)
		o := RangeOptions{Key: []byte{0}, End: []byte{0}, Rev: max(v.Current()-back, 2)}
		all, err := v.Range(o, func(KV) error { walked++; return nil })
		o.Limit = 5
		page, perr := v.Range(o, func(KV) error { return nil })
		if cerr := v.Close(); cerr != nil {
			return cerr
		}
		if errors.Is(err, ErrCompacted) && back > 0 {
			continue
		}
		if err != nil || perr != nil || walked != keys || all.Count != keys || page.Count != keys {
			return fmt.Errorf("at %d: walked %d, counted %d and %d (%v, %v)", o.Rev, walked, all.Count, page.Count, err, perr)
		}
	}
	return nil
}
