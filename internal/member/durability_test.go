package member

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestLargeEntriesAreKeptUpToABound of bytes, though by their number more would be kept; without one for who has said which number. A crash
// changes nothing of what was put.
func TestLargeEntriesAreKeptUpToABound(t *testing.T) {
	t.Parallel()
	const entries, size = 40, 20 << 10
	for name, c := range map[string]struct {
		byNumber bool // alone
		bytes    uint64
		want     uint64 // how many are left below the durable one
	}{
		"fewer bytes than entries":  {false, 10 * size, 9},
		"room for all":              {false, 1 << 30, 30},
		"of one entry":              {false, 1, 0},
		"by their number":           {true, 10 * size, 30},
		"by their number, the last": {true, 1, 30},
	} {
		disk := vfs.NewCrashableMem()
		cfg := configOf(t, disk, alone)
		cfg.MaxRequestBytes = 1 << 20
		cfg.SnapshotCatchUpEntries, cfg.KeepLogForAbsent, cfg.CatchUpBytes = 30, !c.byNumber, c.bytes
		m := open(t, cfg)
		step(m)
		for i := range entries {
			putStepped(t, m, "k", fmt.Sprint(i)+strings.Repeat("v", size))
		}
		if err := errors.Join(m.Flush(), m.CutLog()); err != nil {
			t.Fatal(err)
		}
		applied, _ := m.Store().Applied()
		if got := applied - m.Log().Mark().Index; got < c.want || got > c.want+1 {
			t.Errorf("%s: %d entries are left, want %d", name, got, c.want)
		}
		if above := m.catchUp(applied); above > applied || above < m.Log().Mark().Index {
			t.Errorf("%s: what others need begins above %d, the log above %d and ends at %d", name, above, m.Log().Mark().Index, applied)
		}
		putStepped(t, m, "k", "last")
		cfg.FS = disk.CrashClone(vfs.CrashCloneCfg{})
		stop(t, m)
		m = start(t, cfg)
		if got := get(t, m, "k"); got != "last" {
			t.Errorf("%s: k is %q after a crash", name, got)
		}
		stop(t, m)
	}
}
