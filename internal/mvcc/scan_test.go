package mvcc

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestARangeOfADiskThatFailsIsRightOrFails, whichever read of it fails. Backwards the cursor comes from the oldest version of a key, and the newest
// lies in another block.
func TestARangeOfADiskThatFailsIsRightOrFails(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]RangeOptions{
		"in order":                  {Order: SortAscend},
		"backwards":                 {Order: SortDescend},
		"a page in order":           {Order: SortAscend, Limit: 1},
		"a page backwards":          {Order: SortDescend, Limit: 1},
		"the count alone":           {CountOnly: true},
		"what was changed early on": {MaxMod: 100},
		"a page by values":          {Order: SortAscend, Target: SortByValue, Limit: 1},
		"a page of keys alone":      {Order: SortDescend, Limit: 1, KeysOnly: true},
		"an earlier revision":       {Rev: 1500},
	} {
		o.Key, o.End = []byte("a"), fromKeyOn
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewMem()
			s, done := openStore(t, mem, defaultRunSizes)
			put(t, s, "a", "first", "c", "last")
			for i := range defaultRunSizes.max - 10 { // what is counted is walked over
				put(t, s, fmt.Sprintf("a%04d", i), strings.Repeat("x", 200))
			}
			for i := range 2000 {
				put(t, s, "b", fmt.Sprint(i, " ", strings.Repeat("x", 200)))
			}
			put(t, s, "b", "newest")
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
			done()

			want, failed := "", 0
			for at := int64(0); ; at++ { // at 0 none fails
				var reads atomic.Int64 // those of the range, not what the database does besides
				s, done := openStore(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
					if op.Kind.ReadOrWrite() == errorfs.OpIsRead && bytes.Contains(debug.Stack(), []byte(".rangeText(")) && reads.Add(1) == at {
						return errorfs.ErrInjected
					}
					return nil
				})), defaultRunSizes)
				v, err := s.View(0)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := v.Get([]byte("c")); err != nil { // the file is open now, for others, too, who would fail with the range
					t.Fatal(err)
				}
				got, err := rangeText(v, o)
				_ = v.Close() // it may have an error to tell
				done()
				switch {
				case at == 0 && (err != nil || !strings.Contains(got, "count ")):
					t.Fatalf("%.200s, %v", got, err)
				case at == 0:
					want = got
				case err != nil && !errors.Is(err, errorfs.ErrInjected):
					t.Fatalf("read %d: %v", at, err)
				case err != nil:
					failed++
				case got != want:
					t.Errorf("read %d failed, and the range is %.200s; it should be %.200s", at, got, want)
				case reads.Load() < at:
					if failed == 0 {
						t.Errorf("%d reads failed of %d", failed, at-1)
					}
					return
				}
			}
		})
	}
}
