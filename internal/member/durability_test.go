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
		cfg.MaxRequestBytes, cfg.MaxLearners = 1<<20, 1
		cfg.SnapshotCatchUpEntries, cfg.KeepLogForAbsent, cfg.CatchUpBytes = 30, !c.byNumber, c.bytes
		m := start(t, cfg)
		mustAdd(t, m, true, "http://127.0.0.1:11") // somebody the log is kept for
		stop(t, m)
		m = open(t, cfg)
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

// TestAnOnlyMemberKeepsNoLogForOthers: what is durable in the state is cut off, and a stop leaves less than an eighth of a segment. What was put is
// there after it, and after a crash of the disk once it has ended.
func TestAnOnlyMemberKeepsNoLogForOthers(t *testing.T) {
	t.Parallel()
	const size = 256 << 10
	for name, c := range map[string]struct {
		byNumber bool
		learner  bool
		noRoom   bool
		puts     int
		emptied  bool
	}{
		"a small log":            {puts: 8},
		"an eighth of a segment": {puts: 20, emptied: true},
		"more than a segment":    {puts: 150, emptied: true},
		"somebody is added":      {learner: true, puts: 20},
		"by their number":        {byNumber: true, puts: 20},
		"no room on the disk":    {noRoom: true, puts: 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			cfg := configOf(t, disk, alone)
			cfg.MaxRequestBytes, cfg.MaxLearners, cfg.SnapshotCatchUpEntries, cfg.KeepLogForAbsent = 1<<20, 1, 5000, !c.byNumber
			if c.noRoom {
				full := &tight{FS: disk}
				full.free.Store(emptyBytes - 1)
				cfg.FS = full
			}
			m := start(t, cfg)
			if c.learner {
				mustAdd(t, m, true, "http://127.0.0.1:11")
			}
			for i := range c.puts {
				put(t, m, "k", fmt.Sprint(i)+strings.Repeat("v", size))
			}
			put(t, m, "k", "last")
			last := m.Log().LastIndex()
			stop(t, m)
			for state, disk := range map[string]*vfs.MemFS{"stop": disk, "stop and a power cut": disk.CrashClone(vfs.CrashCloneCfg{})} {
				cfg.FS = disk
				m = open(t, cfg)
				if mark := m.Log().Mark().Index; (mark == last) != c.emptied {
					t.Errorf("after a %s the log is cut at %d of %d", state, mark, last)
				}
				if got := m.Log().Metrics(); c.emptied && (got.Segments != 1 || got.DiskBytes > 64<<10) {
					t.Errorf("after a %s the log has %d segments and %d bytes", state, got.Segments, got.DiskBytes)
				}
				step(m)
				putStepped(t, m, "k2", "more")
				stop(t, m)
				m = start(t, cfg)
				if k, k2 := get(t, m, "k"), get(t, m, "k2"); k != "last" || k2 != "more" {
					t.Errorf("after a %s k is %.10q and k2 %q", state, k, k2)
				}
				stop(t, m)
			}
		})
	}
}
