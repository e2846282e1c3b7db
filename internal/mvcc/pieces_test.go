package mvcc

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// compareMeasured reads a range twice, once whole and once measured from some key on, and wants the same length and the same result.
func compareMeasured(t *rapid.T, r Reader, o RangeOptions) {
	var want, given []int
	whole, wantErr := r.Range(o, func(kv KV) error { want = append(want, fieldLength(kv)); return nil })
	from := rapid.IntRange(0, 6).Draw(t, "measured from")
	told := 0
	o.Measure = func(length int) error { told += length; return nil }
	got, err := r.Range(o, func(kv KV) error {
		if len(given) == from {
			return ErrMeasure
		}
		given = append(given, fieldLength(kv))
		return nil
	})
	rest := sum(want[len(given):])
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || got != whole || !slices.Equal(given, want[:len(given)]) || told != rest {
		t.Fatalf("range %+v\n gives %d and measures %d: %+v (%v)\nwant %d and %d: %+v (%v)",
			o, given, told, got, err, want[:len(given)], rest, whole, wantErr)
	}
}

// fieldLength returns what a key-value takes in a message: a tag, its length and itself.
func fieldLength(kv KV) int { return len(appendBytes(nil, tagValue, kv.Raw())) }

func sum(of []int) (n int) {
	for _, x := range of {
		n += x
	}
	return n
}

// piecesLab is a store of some pieces, from a tenth of which versions were deleted, and what is measured of it.
func piecesLab(t *testing.T) (s *Store, length int, done func()) {
	t.Helper()
	s, done = openStore(t, vfs.NewMem(), smallRuns)
	for i := range 200 {
		put(t, s, fmt.Sprintf("k%03d", i), "v", fmt.Sprintf("k%03d", i), fmt.Sprint(i))
		if i%10 == 3 {
			del(t, s, fmt.Sprintf("k%03d", i), "")
		}
	}
	v, err := s.View(0)
	if err != nil {
		t.Fatal(err)
	}
	err = ranged(v, all, func(kv KV) error { length += fieldLength(kv); return nil })
	if err = errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
	return s, length, done
}

// measured measures all keys.
func measured(s *Store, measure func(length int) error) (res RangeResult, err error) {
	v, err := s.View(0)
	if err != nil {
		return res, err
	}
	res, err = v.Range(with(func(o *RangeOptions) { o.Measure = measure }), func(KV) error { return ErrMeasure })
	return res, errors.Join(err, v.Close())
}

func TestPiecesAreMeasuredBesideEachOther(t *testing.T) {
	t.Parallel()
	s, want, done := piecesLab(t)
	defer done()
	told, beside := 0, int32(0)
	res, err := measured(s, func(length int) error {
		told, beside = told+length, max(beside, s.besides.Load())
		return nil
	})
	if err != nil || res.Count != 180 || told != want {
		t.Errorf("%d bytes of %d are measured, %+v, %v", told, want, res, err)
	}
	if want := int32(min(runtime.GOMAXPROCS(0)-1, besidesMax)); beside > want || want > 0 && beside == 0 {
		t.Errorf("%d measured beside another, of %d that may", beside, want)
	}
	if n := s.besides.Load(); n != 0 {
		t.Errorf("%d still do", n)
	}
}

// TestNobodyMeasuresBesideWhileOthersAsk: once another view is opened, or something was applied, the one who was asked goes on alone.
func TestNobodyMeasuresBesideWhileOthersAsk(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(*Store){
		"for a view": func(s *Store) {
			v, err := s.View(0)
			if err = errors.Join(err, v.Close()); err != nil {
				t.Error(err)
			}
		},
		"for a put": func(s *Store) { put(t, s, "other", "v") },
	} {
		s, _, done := piecesLab(t)
		v, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		q := &query{o: with(func(o *RangeOptions) { o.Measure = func(int) error { return nil } }), rev: v.rev, src: v}
		p := q.pieces([]byte("k000"), false)
		if !p.quiet() {
			t.Errorf("asked %s: somebody asked before", name)
		}
		ask(s)
		p.walk(v, p.quiet)
		if n := p.next.Load(); n != 0 || p.quiet() {
			t.Errorf("asked %s: a goroutine beside took %d pieces", name, n)
		}
		if p.walk(v, nil); p.err != nil || q.count != 179 {
			t.Errorf("asked %s: %d keys are measured, %v", name, q.count, p.err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		done()
	}
}

// TestNobodyMeasuresBesideTooMany: there are as many already as may be, and the one who was asked does it alone.
func TestNobodyMeasuresBesideTooMany(t *testing.T) {
	t.Parallel()
	s, want, done := piecesLab(t)
	defer done()
	s.besides.Store(besidesMax)
	told := 0
	res, err := measured(s, func(length int) error {
		if told += length; s.besides.Load() != besidesMax {
			t.Errorf("%d measure", s.besides.Load())
		}
		return nil
	})
	if err != nil || res.Count != 180 || told != want {
		t.Errorf("%d bytes of %d are measured, %+v, %v", told, want, res, err)
	}
}

func TestAnErrorEndsAllPieces(t *testing.T) {
	t.Parallel()
	t.Run("of who is told", func(t *testing.T) {
		t.Parallel()
		s, _, done := piecesLab(t)
		defer done()
		enough := errors.New("enough")
		for n := range 5 {
			calls := 0
			_, err := measured(s, func(int) error {
				if calls++; calls > n {
					return enough
				}
				return nil
			})
			if !errors.Is(err, enough) || calls != n+1 {
				t.Errorf("after %d calls of %d: %v", calls, n+1, err)
			}
		}
		if n := s.besides.Load(); n != 0 {
			t.Errorf("%d still measure", n)
		}
	})
	t.Run("of a version", func(t *testing.T) {
		t.Parallel()
		s, _, done := piecesLab(t)
		defer done()
		change(t, s, func(b *storage.Batch) error {
			return b.Set(storage.AppendDataKey(nil, []byte("k150"), s.Revision(), 0), []byte{stubMark}, nil)
		})
		if _, err := measured(s, func(int) error { return nil }); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("a damaged version is measured: %v", err)
		}
		if n := s.besides.Load(); n != 0 {
			t.Errorf("%d still measure", n)
		}
	})
}
