package member

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestARestartOnAFullDiskEndsAndLosesNothing kills a member and starts it on a disk on which no write succeeds from the
// n-th on. Pebble tries a flush again for ever, in Open too: the start must end nevertheless.
func TestARestartOnAFullDiskEndsAndLosesNothing(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := start(t, configOf(t, disk, alone))
	for i := range 20 {
		put(t, m, fmt.Sprint("k", i), "v")
	}
	revision := m.Store().Revision()
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, m)
	for n := range int64(60) { // more writes than an opening makes
		d := crashed.CrashClone(vfs.CrashCloneCfg{})
		var writes atomic.Int64
		full := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && writes.Add(1) > n {
				return syscall.ENOSPC
			}
			return nil
		})
		cfg := configOf(t, errorfs.Wrap(d, full), alone)
		cfg.Fatal = func(error) {} // an error in the background may come after Open
		if m, err := Open(cfg); err == nil {
			_ = m.Stop() // it may find the error only now
		}
		m := start(t, configOf(t, d, alone))
		if got := m.Store().Revision(); got != revision {
			t.Errorf("after a start that found the disk full at write %d the revision is %d, want %d", n, got, revision)
		}
		stop(t, m)
	}
}
