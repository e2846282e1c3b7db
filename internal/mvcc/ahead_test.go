package mvcc

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// TestWhatIsReadAheadIsWhatPutsReplace lets the readers read everything before the first put, or nothing, or some, of keys that were forgotten and of others.
func TestWhatIsReadAheadIsWhatPutsReplace(t *testing.T) {
	t.Parallel()
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("SKIPPED: nothing is read ahead on one processor")
	}
	const keys = 60
	key := func(i int) []byte { return fmt.Appendf(nil, "key-%02d", i) }
	old := func(i int) string { return strings.Repeat("v", i%7*1000+1) } // some are above aheadValueMax
	for name, c := range map[string]struct {
		wait       func(a *ahead)
		remembered bool
	}{
		"all": {func(a *ahead) { a.done.Wait() }, false}, "none": {(*ahead).stop, false}, "some": {func(*ahead) {}, false},
		"what is not remembered": {func(*ahead) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			for i := range keys {
				put(t, s, string(key(i)), old(i))
			}
			del(t, s, string(key(10)), string(key(20)))
			if !c.remembered {
				s.heads = heads{}
			}
			w := s.NewWriter()
			for i := range keys {
				w.Expect(key(i), i%2 == 0)
			}
			if err := w.ReadAhead(); err != nil {
				t.Fatal(err)
			}
			c.wait(&w.ahead)
			for i := range keys {
				w.Begin()
				if i%3 == 0 { // another way than the one expected, now and then
					prev, existed, err := w.Put(key(i), []byte("new"), 0)
					deleted := i >= 10 && i < 20
					if err != nil || existed == deleted || existed && string(prev.Value()) != old(i) {
						t.Fatalf("%s replaced %d bytes, %v, %v", key(i), len(prev.Value()), existed, err)
					}
				} else if err := w.PutBlind(key(i), []byte("new"), 0); err != nil {
					t.Fatal(err)
				}
				w.End()
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			for i := range keys {
				got := read(t, s, RangeOptions{Key: key(i)})
				want := fmt.Sprintf("%s=new@%d/%d/2", key(i), i+2, keys+i+3)
				if i >= 10 && i < 20 {
					want = fmt.Sprintf("%s=new@%d/%d/1", key(i), keys+i+3, keys+i+3)
				}
				if !strings.HasPrefix(got, want) {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
}
