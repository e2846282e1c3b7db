package member

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestARunningMemberProvesWhatItHasSynced, by one more write to its log once nothing was written for a while. That it does so from Start on is all
// that is to be shown: to prove it earlier would be a write too much and take nothing away.
func TestARunningMemberProvesWhatItHasSynced(t *testing.T) {
	t.Parallel()
	var syncs atomic.Int64
	logDir := storage.LogDir("data", "")
	manual := clock.NewManual(time.Unix(0, 0))
	cfg := configOf(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if strings.HasPrefix(op.Path, logDir) {
				syncs.Add(1)
			}
		}
		return nil
	})), alone)
	stop(t, start(t, cfg)) // from here on nothing is to be told to the cluster
	cfg.Clock = manual
	m := open(t, cfg)
	putStepped(t, m, "k", "v")
	before := syncs.Load()
	manual.Advance(sealAfter)
	m.Start()
	for end := time.Now().Add(10 * time.Second); syncs.Load() == before; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("what was synced is not proven")
		}
	}
	stop(t, m)
}
