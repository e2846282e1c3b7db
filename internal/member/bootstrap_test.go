package member

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestACrashAnywhereInTheFirstStartLosesNothing crashes before every operation of the first start that writes, and
// starts again from what the disk then holds: with all, some and none of what was not synced.
func TestACrashAnywhereInTheFirstStartLosesNothing(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex // Pebble writes from goroutines of its own
	type crash struct {
		at    string
		disks []*vfs.MemFS
	}
	var crashes []crash
	rng := rand.New(rand.NewPCG(1, 2))
	watch := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		c := crash{at: fmt.Sprintf("operation %d, kind %d on %s", len(crashes), op.Kind, op.Path)}
		for _, kept := range []int{0, 50, 100} {
			c.disks = append(c.disks, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng}))
		}
		crashes = append(crashes, c)
		return nil
	})
	m := start(t, configOf(t, errorfs.Wrap(disk, watch), alone))
	identity := m.identity
	stop(t, m)
	t.Logf("%d crashes", len(crashes))
	for _, c := range crashes {
		for _, d := range c.disks {
			_, known, err := storage.ReadIdentityFile(d, "data")
			if err != nil {
				t.Fatalf("%s: %v", c.at, err)
			}
			m, err := Open(configOf(t, d, alone))
			if err != nil {
				t.Fatalf("%s: %v", c.at, err)
			}
			if known && m.identity != identity {
				t.Errorf("%s: the member has become another one", c.at)
			}
			step(m)
			putStepped(t, m, "k", "v")
			stop(t, m)
		}
	}
}

// TestAFirstStartOnABrokenDiskFailsAndTheNextOneFoundsTheMember fails one operation of the foundation, each in its turn.
func TestAFirstStartOnABrokenDiskFailsAndTheNextOneFoundsTheMember(t *testing.T) {
	t.Parallel()
	for at := range int64(160) { // more than a foundation has
		disk := vfs.NewCrashableMem()
		var operations, opened atomic.Int64
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpLock && op.Path == statePath+"/LOCK" {
				opened.Add(1)
			}
			// The second time the state is opened to be used: the member is founded.
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && opened.Load() < 2 && operations.Add(1) == at+1 {
				return syscall.EIO
			}
			return nil
		})
		cfg := configOf(t, errorfs.Wrap(disk, inject), alone)
		cfg.Fatal = func(error) {} // an error in the background may come beside the one of Open
		m, err := Open(cfg)
		switch {
		case err == nil:
			_ = m.Stop() // it may find the error only now
		case !strings.Contains(err.Error(), syscall.EIO.Error()): // its type is lost where Pebble tells it in words
			t.Errorf("operation %d: got %v", at, err)
		}
		m = start(t, configOf(t, disk, alone))
		put(t, m, "k", "v")
		stop(t, m)
	}
}
