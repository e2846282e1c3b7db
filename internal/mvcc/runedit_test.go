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

// TestARunThatCannotBeCutEndsTheGroup, whichever read of it fails: without its keys every count would be wrong from then on.
func TestARunThatCannotBeCutEndsTheGroup(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s, done := openStore(t, mem, defaultRunSizes)
	for i := range defaultRunSizes.max {
		put(t, s, fmt.Sprintf("key%03d", i), strings.Repeat("x", 2000))
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	done()

	for at, failed := int64(1), 0; ; at++ {
		var reads atomic.Int64
		disk := mem.CrashClone(vfs.CrashCloneCfg{})
		s, done := openStore(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsRead && bytes.Contains(debug.Stack(), []byte(".cut(")) && reads.Add(1) == at {
				return errorfs.ErrInjected
			}
			return nil
		})), defaultRunSizes)
		readOne(t, s, "key000") // the file is open now, for others, too, who would fail with the group
		w := s.NewWriter()
		w.Begin()
		if _, _, err := w.Put([]byte("one too many"), nil, 0); err != nil {
			t.Fatal(err)
		}
		w.End()
		err := w.Commit()
		switch {
		case err != nil && !errors.Is(err, errorfs.ErrInjected):
			t.Errorf("read %d: %v", at, err)
		case err != nil:
			failed++
		default:
			checkStore(t, s)
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		done()
		s, done = openStore(t, disk, defaultRunSizes)
		checkStore(t, s)
		done()
		if reads.Load() < at {
			if failed == 0 {
				t.Errorf("no read failed of %d", at-1)
			}
			return
		}
	}
}
