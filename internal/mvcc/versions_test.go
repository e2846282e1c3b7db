package mvcc

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestVersionReaderAgreesWithAt(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	type ref struct {
		key []byte
		rev Revision
	}
	var refs []ref
	for i := range 120 {
		entry(t, s, func(w *Writer) {
			for j := range 1 + i%3 {
				key := fmt.Appendf(nil, "k%d", (i+j)%4)
				if (i+j)%7 == 0 {
					if _, err := w.DeleteRange(key, nil, nil); err != nil {
						t.Fatal(err)
					}
				} else if _, _, err := w.Put(key, fmt.Append(nil, i), 0); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for k := range 5 {
		for main := int64(1); main < 125; main++ {
			for sub := range uint32(4) {
				refs = append(refs, ref{fmt.Appendf(nil, "k%d", k), Revision{main, sub}})
			}
		}
	}
	check := func(order string) {
		t.Helper()
		v, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		plain, err := s.View(0)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		r, found := v.Versions(), 0
		for _, x := range refs {
			got, ok, err := r.At(x.key, x.rev)
			if err != nil {
				t.Fatal(err)
			}
			want, wantOK, err := plain.At(x.key, x.rev)
			if err != nil {
				t.Fatal(err)
			}
			if ok != wantOK || ok && !bytes.Equal(got.Raw(), want.Raw()) {
				t.Fatalf("%s: %q at %v: %x, %v; want %x, %v", order, x.key, x.rev, got.Raw(), ok, want.Raw(), wantOK)
			}
			if ok {
				found++
			}
		}
		if found == 0 {
			t.Fatal("no version was found")
		}
	}
	check("oldest first")
	slices.Reverse(refs)
	check("newest first")
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	slices.SortStableFunc(refs, func(a, b ref) int { return bytes.Compare(a.key, b.key) })
	check("by key")
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	check("in any order")
}
