package member

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

func isSync(k errorfs.OpKind) bool {
	return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData || k == errorfs.OpFileSyncTo
}

// isSpace says whether an operation needs space on the disk.
func isSpace(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite:
		return true
	default:
		return false
	}
}

func TestADiskThatFailsEndsTheMemberAndLosesNothing(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		dir   string
		kind  func(errorfs.OpKind) bool
		err   error
		write func(m *Member) error // what meets the error
	}{
		"the log cannot be synced":   {logPath, isSync, syscall.EIO, nil},
		"no space for the log":       {logPath, isSpace, syscall.ENOSPC, nil},
		"the state cannot be synced": {statePath, isSync, syscall.EIO, (*Member).Flush},
		"no space for the state":     {statePath, isSpace, syscall.ENOSPC, (*Member).Flush},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			var failing atomic.Bool
			inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failing.Load() && c.kind(op.Kind) && strings.HasPrefix(op.Path, c.dir+"/") {
					return c.err
				}
				return nil
			})
			cfg := configOf(t, errorfs.Wrap(disk, inject), alone)
			reasons := make(chan error, 10)
			cfg.Fatal = func(err error) { reasons <- err }
			m := start(t, cfg)
			for i := range 20 {
				put(t, m, fmt.Sprint("k", i), "v")
			}
			failing.Store(true)
			if c.write != nil {
				if err := c.write(m); err == nil {
					t.Error("the state was written")
				}
			} else if _, err := m.Propose(t.Context(), apply.CommandPut, putRequest(t, "lost", "v")); err == nil {
				t.Error("a write was acknowledged that is not on the disk")
			}
			reason := <-reasons
			if !strings.Contains(reason.Error(), c.dir) || !strings.Contains(reason.Error(), c.err.Error()) {
				t.Errorf("the reason %q does not name %s and %q", reason, c.dir, c.err)
			}
			failing.Store(false) // the disk is well again, but what failed stays failed
			for range 3 {
				if _, err := m.Propose(t.Context(), apply.CommandPut, putRequest(t, "later", "v")); err == nil {
					t.Error("a write was acknowledged after the failure")
				}
			}
			crashed := disk.CrashClone(vfs.CrashCloneCfg{})
			_ = m.Stop() // it may tell of the failure again
			if len(reasons) != 0 {
				t.Errorf("a second reason: %v", <-reasons)
			}
			for what, disk := range map[string]*vfs.MemFS{"a stop": disk, "a crash": crashed} {
				m := start(t, configOf(t, disk, alone))
				for i := range 20 {
					if got := get(t, m, fmt.Sprint("k", i)); got != "v" {
						t.Errorf("after %s: k%d is %q", what, i, got)
					}
				}
				stop(t, m)
			}
		})
	}
}
