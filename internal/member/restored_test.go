package member

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/takeover"
)

// TestTheGuardOfARestoreGoesWhenNoCrashBringsBackWhatItGuards, as it may be on another disk, which keeps an order of its own.
func TestTheGuardOfARestoreGoesWhenNoCrashBringsBackWhatItGuards(t *testing.T) {
	t.Parallel()
	const database = "data/member/snap/db"
	for name, c := range map[string]struct {
		walDir   string
		database bool
	}{
		"beside the database": {"", true},
		"elsewhere":           {"wal", true},
		"alone":               {"wal", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			cfg := configOf(t, disk, alone)
			cfg.WALDir = c.walDir
			stop(t, open(t, cfg)) // which has not run yet
			guard := disk.PathJoin(cmp.Or(c.walDir, "data/member/wal"), storage.RestoredGuard)
			writeSynced(t, disk, guard)
			if c.database {
				writeSynced(t, disk, database)
			}
			gone := false
			cfg.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpRemoveAll && op.Path == guard {
					gone = true
					if _, err := disk.CrashClone(vfs.CrashCloneCfg{}).Stat(database); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("when the guard goes a crash leaves the database: %v", err)
					}
				}
				return nil
			}))
			stop(t, start(t, cfg))
			if !gone {
				t.Error("the guard was left")
			}
			for _, path := range []string{guard, "data/member"} {
				if _, err := disk.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is there still: %v", path, err)
				}
			}
		})
	}
}

// TestTheCopyOfARestoreIsNoMember: who has brought nothing else is told so, and keeps it. An empty member, or the one that was there before, would
// serve in place of what was restored, and remove the copy at the next start.
func TestTheCopyOfARestoreIsNoMember(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wal bool // of its own
		ran bool // a member, before
	}{
		"alone":                       {false, false},
		"alone, with a log elsewhere": {true, false},
		"with the member before":      {false, true},
		"with the member before and a log elsewhere": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, nil, alone)
			cfg.FS, cfg.DataDir = nil, t.TempDir()
			logs := filepath.Join(cfg.DataDir, "member", "wal")
			if c.wal {
				logs = t.TempDir()
				cfg.WALDir = logs
			}
			cfg.Etcd = &takeover.Place{DataDir: cfg.DataDir, WALDir: cfg.WALDir}
			if c.ran {
				stop(t, start(t, cfg))
			}
			database := filepath.Join(cfg.DataDir, "member", "snap", "db")
			for _, path := range []string{database, filepath.Join(logs, storage.RestoredGuard)} {
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				m, err := Open(cfg)
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "restore") {
					t.Errorf("got %v", err)
				}
				if err == nil {
					stop(t, m)
				}
			}
			if _, err := os.Stat(database); err != nil {
				t.Error(err)
			}
		})
	}
}

// writeSynced makes an empty file that a crash leaves.
func writeSynced(t *testing.T, disk storage.FS, path string) {
	t.Helper()
	dir := disk.PathDir(path)
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	for ; err == nil && dir != "."; dir = disk.PathDir(dir) {
		err = storage.SyncDir(disk, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
}
