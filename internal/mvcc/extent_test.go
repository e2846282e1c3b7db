package mvcc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// measuredAgain measures ranges that were measured before, at any revision that can be read, by views of then and now.
func (x *machine) measuredAgain(t *rapid.T) {
	v, err := x.s.View(0)
	x.must(err, "opening a view")
	defer v.Close()
	for range rapid.IntRange(1, 4).Draw(t, "ranges") {
		from := v
		if x.view != nil && rapid.Bool().Draw(t, "held") {
			from = x.view
		}
		of := rapid.SampledFrom([]span{{"\x00", "\x00"}, {"a", "b"}, {"k", "l"}, {"k05", "k3"}}).Draw(t, "range")
		o := RangeOptions{Key: []byte(of.key), End: []byte(of.end)}
		if rapid.IntRange(0, 3).Draw(t, "old") == 0 {
			o.Rev = rapid.Int64Range(max(1, from.CompactRevision()), from.Current()).Draw(t, "rev")
		}
		compareMeasured(t, from, o)
	}
}

// extentLab is a store of ten keys, of which the range [c, i) was measured.
func extentLab(t *testing.T) *Store {
	t.Helper()
	s := newStore(t)
	for _, key := range "abcdefghij" {
		put(t, s, string(key), strings.Repeat("v", int(key)))
	}
	measuredIn(t, s, 0)
	return s
}

var fromCToI = RangeOptions{Key: []byte("c"), End: []byte("i")}

// measuredIn measures the range at a revision.
func measuredIn(t *testing.T, s *Store, rev int64) {
	t.Helper()
	o := fromCToI
	o.Rev, o.Measure = rev, func(int) error { return nil }
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	err = ranged(v, o, func(KV) error { return ErrMeasure })
	if err = errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
}

// viewOf is a view at a revision, 0 for the newest, until the test ends.
func viewOf(t *testing.T, s *Store, rev int64) *View {
	t.Helper()
	v, err := s.View(rev)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// told returns what a view is told of the range without a walk, and what there is in it.
func told(t *testing.T, v *View) (e extent, ok bool, want extent) {
	t.Helper()
	e, ok, err := v.extent(fromCToI.Key, fromCToI.End, v.Revision(), func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	want.rev = v.Revision()
	err = ranged(v, fromCToI, func(kv KV) error {
		want.keys++
		want.length += fieldLength(kv)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, ok, want
}

// TestARangeThatWasMeasuredIsNotWalkedAgain: what it has now follows from what it had, and from what has changed since.
func TestARangeThatWasMeasuredIsNotWalkedAgain(t *testing.T) {
	t.Parallel()
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	for name, happens := range map[string]func(t *testing.T, s *Store){
		"nothing":                  func(*testing.T, *Store) {},
		"a change beside it":       func(t *testing.T, s *Store) { put(t, s, "b", "other", "i", "other", "zz", "new") },
		"a longer value":           func(t *testing.T, s *Store) { put(t, s, "d", strings.Repeat("w", 300)) },
		"an empty value":           func(t *testing.T, s *Store) { put(t, s, "d", "") },
		"a large value":            func(t *testing.T, s *Store) { put(t, s, "d", large("d")) },
		"a large value no more":    func(t *testing.T, s *Store) { put(t, s, "d", large("d"), "d", "small") },
		"one after another":        func(t *testing.T, s *Store) { put(t, s, "d", large("d"), "d", large("dd"), "d", large("ddd")) },
		"the first key":            func(t *testing.T, s *Store) { put(t, s, "c", "other") },
		"a new key":                func(t *testing.T, s *Store) { put(t, s, "dd", "new", "cc", large("c")) },
		"a key that is gone":       func(t *testing.T, s *Store) { del(t, s, "d", "") },
		"all keys gone":            func(t *testing.T, s *Store) { del(t, s, "a", "z") },
		"all keys gone but one":    func(t *testing.T, s *Store) { del(t, s, "a", "h"); del(t, s, "i", "z") },
		"a key that comes back":    func(t *testing.T, s *Store) { del(t, s, "d", "f"); put(t, s, "d", "again") },
		"a key that came and went": func(t *testing.T, s *Store) { put(t, s, "dd", "new"); del(t, s, "dd", "") },
		"many changes of an entry": func(t *testing.T, s *Store) {
			entry(t, s, func(w *Writer) {
				for i, key := range []string{"d", "dd", "d", "b", "dd", "zz"} {
					must(t, w.PutBlind([]byte(key), []byte(strings.Repeat("x", 200*i)), int64(i)))
				}
				_, err := w.DeleteRange([]byte("dd"), []byte("f"), nil)
				must(t, err, w.PutBlind([]byte("e"), []byte("again"), 0))
			})
		},
		"a lease": func(t *testing.T, s *Store) {
			entry(t, s, func(w *Writer) { must(t, w.PutBlind([]byte("d"), []byte("leased"), -1)) })
		},
		"a compaction to the revision": func(t *testing.T, s *Store) {
			rev := s.Revision()
			put(t, s, "d", "other", "d", large("d"))
			del(t, s, "e", "")
			compact(t, s, rev)
		},
		"a measurement of an older one": func(t *testing.T, s *Store) { measuredIn(t, s, s.Revision()-3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := extentLab(t)
			happens(t, s)
			v := viewOf(t, s, 0)
			if got, ok, want := told(t, v); !ok || got != want {
				t.Errorf("it is told %+v (%t), and has %+v", got, ok, want)
			}
		})
	}
}

func TestARangeIsMeasuredAnewThat(t *testing.T) {
	t.Parallel()
	for name, view := range map[string]func(t *testing.T, s *Store) *View{
		"is read at an older revision": func(t *testing.T, s *Store) *View { return viewOf(t, s, s.Revision()-1) },
		"was measured before what compaction has left": func(t *testing.T, s *Store) *View {
			put(t, s, "d", "other", "d", "another")
			compact(t, s, s.Revision()-1)
			return viewOf(t, s, 0)
		},
		"was measured before what compaction will leave": func(t *testing.T, s *Store) *View {
			put(t, s, "d", "other", "d", "another")
			entry(t, s, func(w *Writer) {
				if err := w.ScheduleCompact(w.Revision() - 1); err != nil {
					t.Fatal(err)
				}
			})
			return viewOf(t, s, 0)
		},
		"has changed in too many revisions": func(t *testing.T, s *Store) *View {
			for range 2*6 + 1 {
				put(t, s, "d", "other")
			}
			return viewOf(t, s, 0)
		},
		"is beside too many changes of one revision": func(t *testing.T, s *Store) *View {
			entry(t, s, func(w *Writer) {
				for i := range 2*6 + 1 {
					if err := w.PutBlind(fmt.Appendf(nil, "z%d", i), nil, 0); err != nil {
						t.Fatal(err)
					}
				}
			})
			return viewOf(t, s, 0)
		},
		"was found to be told wrong": func(t *testing.T, s *Store) *View {
			v := viewOf(t, s, 0)
			v.ForgetLengths()
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, ok, want := told(t, view(t, extentLab(t))); ok {
				t.Errorf("it is told %+v, and has %+v", got, want)
			}
		})
	}
}

// TestWhatIsKnownOfALaterRevisionStays: less has changed since.
func TestWhatIsKnownOfALaterRevisionStays(t *testing.T) {
	t.Parallel()
	s := extentLab(t)
	measuredIn(t, s, s.Revision()-3)
	if e, ok := s.extents.get(span{"c", "i"}); !ok || e.rev != s.Revision() {
		t.Errorf("it is remembered at %d (%t), not at %d", e.rev, ok, s.Revision())
	}
}

// TestJustSoManyChangesAreCorrected: twice as many as there are keys.
func TestJustSoManyChangesAreCorrected(t *testing.T) {
	t.Parallel()
	s := extentLab(t)
	for i := range 2 * 6 {
		put(t, s, "d", strings.Repeat("x", i))
	}
	v := viewOf(t, s, 0)
	if got, ok, want := told(t, v); !ok || got != want {
		t.Errorf("it is told %+v (%t), and has %+v", got, ok, want)
	}
}

// TestACorrectionEndsWithWhoAsked: so many changes are not looked up for nobody.
func TestACorrectionEndsWithWhoAsked(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const keys = correctedStep // of which twice as many changes are corrected
	for round := range 2 {
		for i := range keys {
			put(t, s, fmt.Sprintf("d%03d", i), strings.Repeat("v", round))
		}
		if round == 0 {
			measuredIn(t, s, 0)
		}
	}
	v := viewOf(t, s, 0)
	gone := errors.New("gone")
	if _, _, err := v.extent(fromCToI.Key, fromCToI.End, v.Revision(), func(int) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("it goes on: %v", err)
	}
	if got, ok, want := told(t, v); !ok || got != want {
		t.Errorf("it is told %+v (%t), and has %+v", got, ok, want)
	}
}

// TestAViewOfBeforeACompactionIsTold: what the compaction has removed since is still there for it.
func TestAViewOfBeforeACompactionIsTold(t *testing.T) {
	t.Parallel()
	s := extentLab(t)
	put(t, s, "d", "other", "d", large("d"), "e", "other")
	del(t, s, "e", "")
	before := viewOf(t, s, 0)
	put(t, s, "f", "after")
	compact(t, s, s.Revision())
	if got, ok, want := told(t, before); !ok || got != want {
		t.Errorf("it is told %+v (%t), and has %+v", got, ok, want)
	}
	measuredIn(t, s, 0)
	if got, ok, _ := told(t, before); ok {
		t.Errorf("a view is told what there is after it: %+v", got)
	}
}

func TestOnlyWholeRangesAreRemembered(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(o *RangeOptions){
		"a limit":             func(o *RangeOptions) { o.Limit = 3 },
		"a filter":            func(o *RangeOptions) { o.MinMod = 3 },
		"keys only":           func(o *RangeOptions) { o.KeysOnly = true },
		"no large values":     func(o *RangeOptions) { o.NoLarge = true },
		"nobody who asks":     func(o *RangeOptions) { o.Measure = nil },
		"an error in the end": func(o *RangeOptions) { o.Measure = func(int) error { return errors.New("gone") } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			put(t, s, "c", "1", "d", "2", "e", "3", "f", large("f"))
			v := viewOf(t, s, 0)
			o := fromCToI
			o.Measure = func(int) error { return nil }
			change(&o)
			_ = ranged(v, o, func(KV) error { return ErrMeasure })
			if got, ok, _ := told(t, v); ok {
				t.Errorf("remembered: %+v", got)
			}
		})
	}
}

func TestAChangeWithoutItsVersionIsDamage(t *testing.T) {
	t.Parallel()
	s, done := openStore(t, vfs.NewMem(), smallRuns)
	t.Cleanup(done)
	put(t, s, "c", "1", "d", "2")
	measuredIn(t, s, 0)
	put(t, s, "d", "3")
	change(t, s, func(b *storage.Batch) error {
		return b.Delete(storage.AppendDataKey(nil, []byte("d"), s.Revision(), 0), nil)
	})
	v := viewOf(t, s, 0)
	if e, ok, err := v.extent(fromCToI.Key, fromCToI.End, v.Revision(), func(int) error { return nil }); !errors.Is(err, storage.ErrCorrupt) {
		t.Errorf("%+v, %t, %v", e, ok, err)
	}
}

// TestMeasuringBesideAWriterAndCompactions: several readers measure one range again and again, and each finds what a walk finds.
func TestMeasuringBesideAWriterAndCompactions(t *testing.T) {
	t.Parallel()
	s := extentLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	var recalled atomic.Int64
	for range 3 {
		others.Go(func() {
			for ctx.Err() == nil && measureTwice(t, s, &recalled) {
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.CompactStep(context.Background(), 3); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := 0; i < 400 || recalled.Load() < 100 && i < 40_000; i++ {
		key := string("abcdefghij"[i%10])
		switch i % 37 {
		case 3, 14, 31:
			del(t, s, key, "")
		case 5:
			entry(t, s, func(w *Writer) {
				if err := w.ScheduleCompact(w.Revision() - int64(i%3)); err != nil && !errors.Is(err, ErrCompacted) {
					t.Error(err)
				}
			})
		default:
			put(t, s, key, strings.Repeat("w", i*37%6000))
		}
	}
	cancel()
	others.Wait()
	if recalled.Load() < 100 {
		t.Errorf("only %d times it was remembered", recalled.Load())
	}
}

// measureTwice measures the range as it is remembered, if it is, and by a walk, and leaves it remembered.
func measureTwice(t *testing.T, s *Store, recalled *atomic.Int64) bool {
	v, err := s.View(0)
	if err != nil {
		t.Error(err)
		return false
	}
	defer v.Close()
	got, ok, err := v.extent(fromCToI.Key, fromCToI.End, v.Revision(), func(int) error { return nil })
	o, want := fromCToI, extent{rev: v.Revision()}
	err = errors.Join(err, ranged(v, o, func(kv KV) error {
		want.keys++
		want.length += fieldLength(kv)
		return nil
	}))
	o.Measure = func(int) error { return nil }
	err = errors.Join(err, ranged(v, o, func(KV) error { return ErrMeasure }))
	if err != nil || ok && got != want {
		t.Errorf("it is told %+v, and has %+v, %v", got, want, err)
		return false
	}
	if ok {
		recalled.Add(1)
	}
	return true
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var m memory[span, int]
	name := func(i int) span { return span{fmt.Sprint(i), "end"} }
	for i := range memoryMax {
		m.put(name(i), i)
	}
	m.put(name(0), -1) // takes no room
	for i := range memoryMax {
		if n, ok := m.get(name(i)); !ok || n != i && i > 0 || i == 0 && n != -1 {
			t.Fatalf("%d is remembered as %d, %t", i, n, ok)
		}
	}
	m.put(name(memoryMax), 0)
	if _, ok := m.get(name(0)); ok {
		t.Error("the oldest is remembered")
	}
	if _, ok := m.get(name(1)); !ok || len(m.of) != memoryMax || len(m.order) != memoryMax {
		t.Errorf("the second is remembered: %t, of %d", ok, len(m.of))
	}
	long := span{strings.Repeat("k", memoryKeysMax), "e"}
	m.put(long, 1)
	if _, ok := m.get(long); ok {
		t.Error("long keys are remembered")
	}
	m.forget()
	if _, ok := m.get(name(1)); ok || len(m.of) != 0 {
		t.Errorf("after it all %d are remembered", len(m.of))
	}
}
