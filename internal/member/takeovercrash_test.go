package member

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/ashlar-kv/ashlar/internal/takeover"
)

// etcdPhase is how far a take-over has come on etcd's side: which of the names are there.
type etcdPhase struct{ member, guard, taking, taken bool }

func phaseOf(dir string) (p etcdPhase) {
	if info, err := os.Stat(filepath.Join(dir, "member")); err == nil {
		p.member, p.guard = info.IsDir(), !info.IsDir()
	}
	info, err := os.Stat(filepath.Join(dir, "member.etcd-taking-over"))
	p.taking = err == nil && info.IsDir()
	_, err = os.Stat(filepath.Join(dir, "member.etcd-taken-over"))
	p.taken = err == nil
	return p
}

// in makes a directory of etcd's that is in the phase.
func (p etcdPhase) in(t *testing.T, name string) string {
	t.Helper()
	dir := unpackEtcd(t, name)
	for to, is := range map[string]bool{"member.etcd-taking-over": p.taking, "member.etcd-taken-over": p.taken} {
		if !is {
			continue
		}
		if err := os.Rename(filepath.Join(dir, "member"), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	if p.guard {
		if err := os.WriteFile(filepath.Join(dir, "member"), nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestACrashAnywhereInATakeOverLosesNothing crashes before every operation of a take-over that writes to our files, and
// starts again from what the disk then holds, with none, and some or all, of what was not synced, and from what has become of etcd's
// names by then.
func TestACrashAnywhereInATakeOverLosesNothing(t *testing.T) {
	t.Parallel()
	const name = "etcd-3.7-stopped"
	dir, want := unpackEtcd(t, name), etcdSummaryOf(t, name)
	disk := vfs.NewCrashableMem()
	type crash struct {
		at    string
		phase etcdPhase
		disks []*vfs.MemFS
	}
	var mu sync.Mutex // Pebble writes from goroutines of its own
	var crashes []crash
	rng := rand.New(rand.NewPCG(1, 2))
	watch := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpFileClose {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		c := crash{at: fmt.Sprintf("operation %d, kind %d on %s", len(crashes), op.Kind, op.Path), phase: phaseOf(dir)}
		for _, kept := range []int{0, 50 + len(crashes)%2*50} {
			c.disks = append(c.disks, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: rng}))
		}
		crashes = append(crashes, c)
		return nil
	})
	cfg := takerOf(t, disk, dir)
	cfg.FS = errorfs.Wrap(disk, watch)
	stop(t, start(t, cfg))
	phases := map[etcdPhase]int{}
	for _, c := range crashes {
		phases[c.phase]++
		for _, d := range c.disks {
			dir := c.phase.in(t, name)
			m, err := Open(takerOf(t, d, dir))
			if err != nil {
				t.Fatalf("%s, %+v: %v", c.at, c.phase, err)
			}
			step(m)
			checkTaken(t, m, want)
			putStepped(t, m, "k", "v")
			stop(t, m)
			if p := phaseOf(dir); p != (etcdPhase{guard: true, taken: true}) {
				t.Errorf("%s, %+v: it ends with %+v", c.at, c.phase, p)
			}
			if t.Failed() {
				t.Fatalf("%s, %+v", c.at, c.phase)
			}
		}
	}
	t.Logf("%d crashes, by what has become of etcd's names: %v", len(crashes), phases)
	if len(phases) < 3 {
		t.Error("not every phase was seen")
	}
}

// TestATakeOverGoesOnFromEachNameOfEtcds starts from phases between which nothing of ours is written.
func TestATakeOverGoesOnFromEachNameOfEtcds(t *testing.T) {
	t.Parallel()
	const name = "etcd-3.6-killed"
	want := etcdSummaryOf(t, name)
	for what, p := range map[string]etcdPhase{
		"claimed":                   {guard: true, taking: true},
		"claimed without the guard": {taking: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := p.in(t, name)
			m := start(t, takerOf(t, vfs.NewMem(), dir))
			checkTaken(t, m, want)
			stop(t, m)
			if p := phaseOf(dir); p != (etcdPhase{guard: true, taken: true}) {
				t.Errorf("it ends with %+v", p)
			}
		})
	}
	t.Run("a guard that was not put in its place", func(t *testing.T) {
		t.Parallel()
		dir := unpackEtcd(t, name)
		if err := os.WriteFile(filepath.Join(dir, "member.etcd-taking-over"), []byte("x"), 0o400); err != nil {
			t.Fatal(err)
		}
		m := start(t, takerOf(t, vfs.NewMem(), dir))
		checkTaken(t, m, want)
		stop(t, m)
	})
}

// TestALogElsewhereIsTakenOver has etcd's log in a directory of its own, where ours comes to be, too.
func TestALogElsewhereIsTakenOver(t *testing.T) {
	t.Parallel()
	const name = "etcd-3.7-killed"
	dir, wal := unpackEtcd(t, name), filepath.Join(t.TempDir(), "wal[1") // which is no pattern
	if err := os.Rename(filepath.Join(dir, "member", "wal"), wal); err != nil {
		t.Fatal(err)
	}
	cfg := takerOf(t, nil, dir)
	cfg.FS, cfg.DataDir, cfg.WALDir = nil, dir, wal
	cfg.Etcd = &takeover.Place{DataDir: dir, WALDir: wal}
	left := filepath.Join(wal, "etcd-taken-over")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, takeover.ErrRefused) || !strings.Contains(err.Error(), left) {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(left); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		m := start(t, cfg)
		checkTaken(t, m, etcdSummaryOf(t, name))
		stop(t, m)
	}
	logs, err := os.ReadDir(left)
	if err != nil || len(logs) != 1 {
		t.Errorf("etcd's log is %v, %v", logs, err)
	}
	cfg.WALDir, cfg.Etcd = t.TempDir(), &takeover.Place{DataDir: dir, WALDir: wal}
	if m, err := Open(cfg); err == nil {
		stop(t, m)
		t.Error("it starts with another log")
	}
}

func TestALogInsideOfEtcdsDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := unpackEtcd(t, "etcd-3.7-stopped")
	before := filesOf(t, filepath.Join(dir, "member"))
	cfg := takerOf(t, nil, dir)
	cfg.FS, cfg.DataDir, cfg.WALDir = nil, dir, filepath.Join(dir, "member", "wal")
	cfg.Etcd = &takeover.Place{DataDir: dir, WALDir: cfg.WALDir}
	if m, err := Open(cfg); !errors.Is(err, takeover.ErrRefused) {
		t.Errorf("got %v", err)
		if err == nil {
			stop(t, m)
		}
	}
	if !maps.Equal(before, filesOf(t, filepath.Join(dir, "member"))) {
		t.Error("etcd's files were changed")
	}
}
