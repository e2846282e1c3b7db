package storage

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// rooted is a disk with a data directory.
func rooted(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	if err := MakeDirs(mem, Root("data")); err != nil {
		t.Fatal(err)
	}
	return mem
}

func TestAnUnfinishedRestoreIsKnownAfterACrash(t *testing.T) {
	t.Parallel()
	mem := rooted(t)
	crashed := func() FS { return mem.CrashClone(vfs.CrashCloneCfg{}) }
	if err := BeginRestore(mem, "data"); err != nil {
		t.Fatal(err)
	}
	for _, fs := range []FS{mem, crashed()} {
		if err := CheckRestored(fs, "data"); !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), ": data; remove") {
			t.Errorf("begun: %v", err)
		}
	}
	if err := EndRestore(mem, "data"); err != nil {
		t.Fatal(err)
	}
	for _, fs := range []FS{mem, crashed()} {
		if err := CheckRestored(fs, "data"); err != nil {
			t.Errorf("ended: %v", err)
		}
	}
	if err := EndRestore(mem, "data"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ended twice: %v", err)
	}
}

// TestAMarkOfARestoreThatIsNotDurableIsAnError: at whichever operation on the disk it fails. A restore that could not be ended is
// unfinished after a crash, and a directory that cannot be looked at is not taken for finished.
func TestAMarkOfARestoreThatIsNotDurableIsAnError(t *testing.T) {
	t.Parallel()
	begin := func(fs FS) error { return BeginRestore(fs, "data") }
	for name, c := range map[string]struct {
		begun bool
		do    func(FS) error
		fails int64 // so many operations
	}{
		"begin": {false, begin, 5},
		"end":   {true, func(fs FS) error { return EndRestore(fs, "data") }, 3},
		"check": {false, func(fs FS) error { return CheckRestored(fs, "data") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := range c.fails + 1 {
				mem := rooted(t)
				if c.begun {
					if err := begin(mem); err != nil {
						t.Fatal(err)
					}
				}
				var ops atomic.Int64
				err := c.do(errorfs.Wrap(mem, errorfs.InjectorFunc(func(errorfs.Op) error {
					if ops.Add(1) == at+1 {
						return syscall.EIO
					}
					return nil
				})))
				if at == c.fails {
					if err != nil {
						t.Errorf("without a failure: %v", err)
					}
					return
				}
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("operation %d fails: %v", at+1, err)
				}
				if c.begun {
					if err := CheckRestored(mem.CrashClone(vfs.CrashCloneCfg{}), "data"); !errors.Is(err, ErrUnfinished) {
						t.Errorf("operation %d fails, and after a crash: %v", at+1, err)
					}
				}
			}
		})
	}
}
