package mvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// large returns a value that lies in a record of its own.
func large(letter string) string { return strings.Repeat(letter, largeMin) }

// change writes records as nobody does who respects the format.
func change(t testing.TB, s *Store, fn func(b *storage.Batch) error) {
	t.Helper()
	b := s.db.NewBatch()
	defer b.Close()
	if err := errors.Join(fn(b), s.db.Commit(b)); err != nil {
		t.Fatal(err)
	}
	s.idle.rest()
}

// stored returns what data has of a version.
func stored(t testing.TB, s *Store, key string, rev Revision) record {
	t.Helper()
	var r record
	found, err := s.db.Get(storage.AppendDataKey(nil, []byte(key), rev.Main, rev.Sub), func(v []byte) error {
		r.stored = bytes.Clone(v)
		return nil
	})
	if err != nil || !found {
		t.Fatalf("data of %q at %v: %v, %v", key, rev, found, err)
	}
	return r
}

func largeKey(rev Revision) []byte {
	return storage.AppendRevKey(nil, storage.SpaceLarge, rev.Main, rev.Sub)
}

// inline brings all versions into the form of format 1.
func inline(t testing.TB, s *Store) {
	t.Helper()
	change(t, s, func(b *storage.Batch) error {
		it, err := s.db.NewIter(&storage.IterOptions{LowerBound: dataLower, UpperBound: dataUpper})
		if err != nil {
			return err
		}
		var l Loader
		for ok := it.First(); ok; ok = it.Next() {
			kv, _, err := l.Load(it)
			if err != nil {
				return err
			}
			if err := b.Set(it.Key(), kv.Raw(), nil); err != nil {
				return err
			}
		}
		return errors.Join(b.DeleteRange(largeLower, largeUpper, nil), l.Close(), it.Close())
	})
}

func TestAVersionWithALargeValueLiesInARecordOfItsOwn(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{0: false, 1: false, largeMin - 1: false, largeMin: true, largeMin + 1: true, 70_000: true} {
		s := newStore(t)
		value := strings.Repeat("x", n)
		put(t, s, strings.Repeat("k", 3000), "", "k", value)
		r := stored(t, s, "k", Revision{Main: 3})
		if r.isStub() != want || want && len(r.stored) > 40 {
			t.Errorf("of a value of %d bytes data has %d, a stub: %v", n, len(r.stored), r.isStub())
		}
		if r.size() != len((&fields{key: []byte("k"), create: 3, mod: 3, version: 1, value: []byte(value)}).append(nil)) {
			t.Errorf("a value of %d bytes counts %d", n, r.size())
		}
		if stored(t, s, strings.Repeat("k", 3000), Revision{Main: 2}).isStub() {
			t.Error("a long key makes a value large")
		}
	}
}

// TestAStateOfTheOlderFormatGoesOn: large values that an earlier release wrote stay where they are, until they are compacted away.
func TestAStateOfTheOlderFormatGoesOn(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", large("a"), "b", large("b"), "b", large("c"), "c", large("d"))
	size, hash := s.SizeInUse(), hashOf(t, s)
	inline(t, s)
	if got := s.SizeInUse(); got != size {
		t.Errorf("the size is %d in the older form, %d in this one", got, size)
	}
	checkSize(t, s)
	if got := hashOf(t, s); got != hash {
		t.Errorf("the hash is %x in the older form, %x in this one", got, hash)
	}
	put(t, s, "a", large("e"))
	del(t, s, "c", "")
	if r := stored(t, s, "a", Revision{Main: 6}); !r.isStub() {
		t.Error("what is written now has the older form")
	}
	compact(t, s, s.Revision())
	s.idle.rest() // iterators from before show what was deleted
	checkSize(t, s)
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for key, want := range map[string]string{"a": large("e"), "b": large("c"), "c": ""} {
		if kv, _, err := v.Get([]byte(key)); err != nil || string(kv.Value()) != want {
			t.Errorf("%s has %d bytes (%v), want %d", key, len(kv.Value()), err, len(want))
		}
	}
}

func hashOf(t *testing.T, s *Store) uint32 {
	t.Helper()
	h, _, _, err := s.HashNow(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCompactionRemovesLargeValues looks at the records that are left, as newStore does in the end, after each slice and again after slices
// that were repeated.
func TestCompactionRemovesLargeValues(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for i := range 40 {
		put(t, s, fmt.Sprintf("k%d", i%3), strings.Repeat("v", largeMin-20+i), "small", "v")
	}
	entry(t, s, func(w *Writer) { // two versions of one key in one revision
		for _, key := range []string{"k0", "k1"} {
			if _, err := w.DeleteRange([]byte(key), nil, nil); err != nil {
				t.Fatal(err)
			}
			if err := w.PutBlind([]byte(key), []byte(large("z")), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
	del(t, s, "k2", "")
	entry(t, s, func(w *Writer) {
		if err := w.ScheduleCompact(s.Revision()); err != nil {
			t.Fatal(err)
		}
	})
	for done := false; !done; {
		var err error
		if done, err = s.CompactStep(context.Background(), 7); err != nil {
			t.Fatal(err)
		}
		s.idle.rest() // iterators from before show what was deleted
		checkStore(t, s)
		checkSize(t, s)
		s.compactTarget = neverCompacted // the next slice begins at a whole revision again, as after a crash
	}
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	checkLarge(t, v, map[Revision]bool{{Main: 82, Sub: 1}: true, {Main: 82, Sub: 3}: true})
}

// TestAViewReadsLargeValuesFromOneState: an iterator that was used again shows what a compaction has deleted since, values and all.
func TestAViewReadsLargeValuesFromOneState(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", large("a"), "a", large("b"))
	entry(t, s, func(w *Writer) {
		if err := w.ScheduleCompact(3); err != nil {
			t.Fatal(err)
		}
	})
	_, done := openViews(t, s, 1, "a", large("b"))
	done()
	if _, err := s.CompactStep(context.Background(), 100); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for rev, want := range map[int64]string{2: large("a"), 3: large("b")} {
		kv, found, err := v.At([]byte("a"), Revision{Main: rev})
		if err != nil || !found || string(kv.Value()) != want {
			t.Errorf("at %d %d bytes are found (%v, %v)", rev, len(kv.Value()), found, err)
		}
	}
}

func TestLargeValuesAreNotKeptInMemory(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", large("a"))
	for range 4 {
		if got := read(t, s, RangeOptions{Key: []byte("a")}); !strings.Contains(got, large("a")) {
			t.Fatal(got)
		}
		if kv, _, ok := s.Newest(RangeOptions{Key: []byte("a")}); ok {
			t.Fatalf("%d bytes are kept", len(kv.Raw()))
		}
	}
}

// TestMeasureIsToldWhatIsNotGivenOut compares the lengths that are told with those that would be given.
func TestMeasureIsToldWhatIsNotGivenOut(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", large("a"), "b", "b", "c", strings.Repeat("c", 70_000))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var want []int
	if err := ranged(v, all, func(kv KV) error { want = append(want, fieldLength(kv)); return nil }); err != nil {
		t.Fatal(err)
	}
	told := 0
	o := with(func(o *RangeOptions) { o.Measure = func(n int) error { told += n; return nil } })
	for from := range want {
		told = 0
		given := 0
		res, err := v.Range(o, func(KV) error {
			if given++; given > from {
				return ErrMeasure
			}
			return nil
		})
		if err != nil || res.Count != 3 || given != from+1 || told != sum(want[from:]) {
			t.Errorf("from %d on: told %v of %v, given %d, %+v, %v", from, told, want, given, res, err)
		}
	}
	for i, key := range []string{"a", "b", "c"} {
		// Alone, a large value moves the iterator that has found the key: what it had given out is lost then, as Pebble shows in builds with the race detector.
		told = 0
		if err := ranged(v, RangeOptions{Key: []byte(key), Measure: o.Measure}, func(KV) error { return ErrMeasure }); err != nil || told != want[i] {
			t.Errorf("%s alone: told %d of %d, %v", key, told, want[i], err)
		}
	}
	stop := errors.New("stop")
	o.Measure = func(int) error { return stop }
	if err := ranged(v, o, func(KV) error { return ErrMeasure }); !errors.Is(err, stop) {
		t.Errorf("the error of Measure becomes %v", err)
	}
}

// TestASortIsBoundedByWholeValues: on each member alike, in whatever form it has them.
func TestASortIsBoundedByWholeValues(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	put(t, s, "a", large("a"), "b", large("b"))
	for range 2 {
		v, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		for most, want := range map[int]error{2 * largeMin: ErrTooLarge, 3 * largeMin: nil} {
			q := query{o: with(func(o *RangeOptions) { o.Target = SortByMod }), rev: v.rev, src: v, sortBytesMax: most,
				emit: func(KV) error { return nil }}
			if err := q.run(); !errors.Is(err, want) {
				t.Errorf("with %d bytes: %v, want %v", most, err, want)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		inline(t, s)
	}
}
