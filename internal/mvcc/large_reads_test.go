package mvcc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// reads are all ways to read the versions of the keys a and b at the revisions 2 and 3, and b again at 4.
var reads = map[string]struct {
	late bool // it needs no value, and so reads none
	run  func(s *Store, v *View, emit func(KV) error) error
}{
	"one key": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, RangeOptions{Key: []byte("b")}, emit)
	}},
	"get":     {false, func(_ *Store, v *View, emit func(KV) error) error { return gotten(v, emit) }},
	"a range": {false, func(_ *Store, v *View, emit func(KV) error) error { return ranged(v, all, emit) }},
	"backwards": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Order = SortDescend }), emit)
	}},
	"sorted by value": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Target = SortByValue }), emit)
	}},
	"sorted by revision": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Target = SortByMod }), emit)
	}},
	"at an older revision": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Rev = 3 }), emit)
	}},
	"a version": {false, func(_ *Store, v *View, emit func(KV) error) error {
		kv, found, err := v.At([]byte("b"), Revision{Main: 3})
		return errors.Join(err, emitted(kv, found, emit))
	}},
	"versions in turn": {false, func(_ *Store, v *View, emit func(KV) error) error {
		r := v.Versions()
		for _, rev := range []int64{4, 3} {
			kv, found, err := r.At([]byte("b"), Revision{Main: rev})
			if err := errors.Join(err, emitted(kv, found, emit)); err != nil {
				return err
			}
		}
		return nil
	}},
	"history": {false, func(_ *Store, v *View, emit func(KV) error) error {
		return v.History(2, 4, func(e Event) error {
			kv, err := e.Load()
			return errors.Join(err, emitted(kv, err == nil, emit))
		})
	}},
	"the hash": {false, func(s *Store, _ *View, _ func(KV) error) error {
		_, _, _, err := s.HashNow(context.Background(), 0)
		return err
	}},
	"put that wants the version before": {false, written(func(w *Writer, emit func(KV) error) error {
		prev, existed, err := w.Put([]byte("b"), []byte("new"), 0)
		return errors.Join(err, emitted(prev, existed, emit))
	})},
	"delete that wants the version before": {false, written(func(w *Writer, emit func(KV) error) error {
		_, err := w.DeleteRange([]byte("b"), nil, emit)
		return err
	})},
	"delete of a range that wants the versions before": {false, written(func(w *Writer, emit func(KV) error) error {
		_, err := w.DeleteRange([]byte("a"), fromKeyOn, emit)
		return err
	})},
	"a writer's get": {false, written(func(w *Writer, emit func(KV) error) error {
		kv, found, err := w.Get([]byte("b"))
		return errors.Join(err, emitted(kv, found, emit))
	})},
	"a writer's range": {false, written(func(w *Writer, emit func(KV) error) error { return ranged(w, all, emit) })},
	"a view's head": {true, func(_ *Store, v *View, emit func(KV) error) error {
		kv, found, err := v.Head([]byte("b"))
		return errors.Join(err, emitted(kv, found, emit))
	}},
	"a writer's head": {true, written(func(w *Writer, emit func(KV) error) error {
		kv, found, err := w.Head([]byte("b"))
		return errors.Join(err, emitted(kv, found, emit))
	})},
	"a range without large values": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.NoLarge = true }), emit)
	}},
	"keys alone": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.KeysOnly = true }), emit)
	}},
	"one key alone": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, RangeOptions{Key: []byte("b"), KeysOnly: true}, emit)
	}},
	"keys alone, sorted": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.KeysOnly, o.Target = true, SortByVersion }), emit)
	}},
	"a count": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.CountOnly = true }), emit)
	}},
	"what a filter keeps out": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.MaxMod = 1 }), emit)
	}},
	"lengths alone": {true, func(_ *Store, v *View, _ func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Measure = func(int) error { return nil } }), func(KV) error { return ErrMeasure })
	}},
	"what a sort leaves out": {true, func(_ *Store, v *View, emit func(KV) error) error {
		return ranged(v, with(func(o *RangeOptions) { o.Target, o.Order, o.Limit = SortByMod, SortAscend, 1 }), emit)
	}},
	"a put": {true, written(func(w *Writer, _ func(KV) error) error { return w.PutBlind([]byte("b"), []byte("new"), 0) })},
	"a delete": {true, written(func(w *Writer, _ func(KV) error) error {
		_, err := w.DeleteRange([]byte("b"), nil, nil)
		return err
	})},
	"a delete of a range": {true, written(func(w *Writer, _ func(KV) error) error {
		_, err := w.DeleteRange([]byte("a"), fromKeyOn, nil)
		return err
	})},
}

var all = RangeOptions{Key: []byte{0}, End: fromKeyOn}

func with(change func(o *RangeOptions)) RangeOptions {
	o := all
	change(&o)
	return o
}

func ranged(r Reader, o RangeOptions, emit func(KV) error) error {
	_, err := r.Range(o, emit)
	return err
}

func gotten(r Reader, emit func(KV) error) error {
	kv, found, err := r.Get([]byte("b"))
	return errors.Join(err, emitted(kv, found, emit))
}

func emitted(kv KV, found bool, emit func(KV) error) error {
	if !found {
		return errors.New("nothing is found")
	}
	return emit(kv)
}

// written runs what reads by a Writer, whose group is discarded. Of b nothing is remembered.
func written(fn func(w *Writer, emit func(KV) error) error) func(*Store, *View, func(KV) error) error {
	return func(s *Store, _ *View, emit func(KV) error) error {
		s.heads = heads{}
		w := s.NewWriter()
		defer w.Discard()
		w.Begin()
		defer w.End()
		return fn(w, emit)
	}
}

// TestReadsOfLargeValues runs them all over whole versions, in either form, and over every kind of damage: then those that need the value
// fail, and the others do not see it.
func TestReadsOfLargeValues(t *testing.T) {
	t.Parallel()
	b3, b4 := Revision{Main: 3}, Revision{Main: 4}
	whole := func(key string, mod int64, value string) []byte {
		return (&fields{key: []byte(key), create: 3, mod: mod, version: mod - 2, value: []byte(value)}).append(nil)
	}
	damages := map[string]func(t *testing.T, s *Store){
		"none":         func(*testing.T, *Store) {},
		"of the older": func(t *testing.T, s *Store) { t.Helper(); inline(t, s) },
		"missing": func(t *testing.T, s *Store) {
			t.Helper()
			change(t, s, func(b *storage.Batch) error {
				return errors.Join(b.Delete(largeKey(b3), nil), b.Delete(largeKey(b4), nil))
			})
		},
	}
	for name, raw := range map[string]func(rev int64) []byte{
		"of another key":      func(rev int64) []byte { return whole("c", rev, large("b")) },
		"of another length":   func(rev int64) []byte { return whole("b", rev, large("b")+"x") },
		"of another revision": func(rev int64) []byte { return whole("b", 7-rev, large("b")) },
		"cut short":           func(rev int64) []byte { return whole("b", rev, large("b"))[:largeMin] },
		"a stub":              func(int64) []byte { return []byte{stubMark} },
	} {
		damages[name] = func(t *testing.T, s *Store) {
			t.Helper()
			change(t, s, func(b *storage.Batch) error {
				return errors.Join(b.Set(largeKey(b3), raw(3), nil), b.Set(largeKey(b4), raw(4), nil))
			})
		}
	}
	for damage, do := range damages {
		t.Run(damage, func(t *testing.T) {
			t.Parallel()
			s, done := openStore(t, vfs.NewMem(), smallRuns)
			defer done()
			put(t, s, "a", "small", "b", large("b"), "b", large("c"))
			do(t, s)
			for name, read := range reads {
				v, err := s.View(0)
				if err != nil {
					t.Fatal(err)
				}
				err = read.run(s, v, func(kv KV) error {
					if _, err := ParseKV(kv.Raw()); err != nil {
						t.Errorf("%s gives out %x: %v", name, kv.Raw(), err)
					}
					text := string(kv.Value())
					if want := map[int64]string{2: "small", 3: large("b"), 4: large("c")}[kv.ModRevision()]; text != want && !(read.late && text == "") {
						t.Errorf("%s gives out %q of %d bytes at %d", name, text[:1], len(text), kv.ModRevision())
					}
					return nil
				})
				if whole := damage == "none" || damage == "of the older"; whole || read.late {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				} else if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), "/0") {
					t.Errorf("%s: %v, want an error that names the revision", name, err)
				}
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
