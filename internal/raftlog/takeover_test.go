package raftlog

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// The logs in testdata/pebble were written by release 0.1: 49 appends of entries of term 1 up to 200, the last one with 160 KiB; a flush;
// an append of [150, 181) of term 2 with a commit index of 120; a cut at 60; an append of two more.
var oldLogs = map[string]struct {
	mark    Mark
	hs      HardState
	entries func() []*raftpb.Entry // nil: it was never initialised
}{
	"killed":    {Mark{60, 1, 1}, HardState{2, 8, 140}, func() []*raftpb.Entry { return append(run(61, 150, 1), run(150, 183, 2)...) }},
	"closed":    {Mark{60, 1, 1}, HardState{2, 8, 140}, func() []*raftpb.Entry { return append(run(61, 150, 1), run(150, 183, 2)...) }},
	"cut":       {Mark{182, 2, 1}, HardState{2, 8, 140}, func() []*raftpb.Entry { return nil }},
	"installed": {Mark{1000, 5, 2}, HardState{5, 1, 1000}, func() []*raftpb.Entry { return run(1001, 1003, 5) }},
	"new":       {},
	"staged":    {},
}

// oldLogOn unpacks a log of an earlier release.
func oldLogOn(t testing.TB, fs storage.FS, name string) {
	t.Helper()
	packed, err := os.ReadFile(filepath.Join("testdata", "pebble", name+".tar.gz"))
	must(t, err)
	z, err := gzip.NewReader(bytes.NewReader(packed))
	must(t, err)
	must(t, fs.MkdirAll(testDir, 0o700))
	for dir := testDir; dir != "."; dir = path.Dir(dir) {
		must(t, storage.SyncDir(fs, path.Dir(dir)))
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		must(t, err)
		overwrite(t, fs, path.Join(testDir, path.Base(h.Name)), b)
	}
}

// wantOld checks that l is the log that was unpacked.
func wantOld(t testing.TB, l *Log, name string) {
	t.Helper()
	want := oldLogs[name]
	if l.Initialised() != (want.entries != nil) {
		t.Fatalf("initialised: %v", l.Initialised())
	}
	if want.entries == nil {
		return
	}
	if l.HardState() != want.hs || l.Identity() != testIdentity {
		t.Fatalf("hard state %+v of %v", l.HardState(), l.Identity())
	}
	wantLog(t, l, want.mark, want.entries())
}

func TestALogInPebbleIsTakenOver(t *testing.T) {
	t.Parallel()
	for name, want := range oldLogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			oldLogOn(t, fs, name)
			for range 2 {
				l := open(t, fs, Options{TailBytes: 1})
				wantOld(t, l, name)
				must(t, l.Close())
				names, err := fs.List(testDir)
				must(t, err)
				slices.Sort(names)
				if !slices.Equal(names, []string{segmentName(1), "LOCK", "marker.format-version.999999.999"}) {
					t.Fatalf("left are %q", names)
				}
			}
			l := open(t, fs, Options{})
			if want.entries == nil {
				must(t, l.Bootstrap(testIdentity, HardState{Term: 1, Commit: 2}, run(1, 3, 1), 1))
				wantLog(t, l, Mark{Generation: 1}, run(1, 3, 1))
			} else {
				next := l.LastIndex() + 1
				must(t, l.Append(nil, run(next, next+2, 9), true))
				wantLog(t, l, want.mark, append(want.entries(), run(next, next+2, 9)...))
			}
			must(t, l.Close())
		})
	}
}

func TestALogInPebbleIsReadAsItIs(t *testing.T) {
	t.Parallel()
	for name := range oldLogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			oldLogOn(t, fs, name)
			must(t, fs.MkdirAll(testDir, 0o700))
			overwrite(t, fs, path.Join(testDir, "LOCK"), nil)
			before := fs.String()
			l := open(t, fs, Options{TailBytes: 1, Storage: storage.Options{ReadOnly: true}})
			wantOld(t, l, name)
			if l.Metrics().DiskBytes == 0 {
				t.Error("it takes no room")
			}
			if err := l.Cut(l.LastIndex() + 1); !errors.Is(err, errMisuse) {
				t.Error(err)
			}
			must(t, l.Close())
			if after := fs.String(); before != after {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// TestACrashWhileALogIsTakenOverLeavesIt: at any write, with none, a part or all of what was not synced.
func TestACrashWhileALogIsTakenOverLeavesIt(t *testing.T) {
	t.Parallel()
	for name := range oldLogs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			oldLogOn(t, mem, name)
			rng := rand.New(rand.NewPCG(1, 6))
			crashed := map[string]*vfs.MemFS{}
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					for _, percent := range []int{0, 40, 70, 100} {
						what := fmt.Sprintf("%d: before %v of %s, %d %%", len(crashed), op.Kind, op.Path, percent)
						crashed[what] = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
					}
				}
				return nil
			}))
			l := open(t, fs, Options{})
			wantOld(t, l, name)
			must(t, l.Close())
			if len(crashed) < 4*10 {
				t.Fatalf("only %d crashes", len(crashed))
			}
			for what, disk := range crashed {
				for range 2 {
					l, err := tryOpen(disk)
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					wantOld(t, l, name)
					must(t, l.Close())
				}
			}
		})
	}
}

// TestAnEarlierReleaseMayGoOnAsLongAsThereIsNoGuard: what it wrote after a take-over that broke off is not lost.
func TestAnEarlierReleaseMayGoOnAsLongAsThereIsNoGuard(t *testing.T) {
	t.Parallel()
	for _, readOnly := range []bool{false, true} {
		fs := vfs.NewMem()
		oldLogOn(t, fs, "closed")
		guard := "marker.format-version.999999.999"
		_, err := tryOpen(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpCreate && path.Base(op.Path) == guard {
				return errors.New("killed")
			}
			return nil
		})))
		names, lerr := fs.List(testDir)
		must(t, lerr)
		if err == nil || !slices.Contains(names, segmentName(1)) || slices.Contains(names, guard) {
			t.Fatalf("the take-over ended with %v and left %q", err, names)
		}
		for _, name := range storage.PebbleLogFiles(names) {
			must(t, fs.Remove(path.Join(testDir, name)))
		}
		oldLogOn(t, fs, "cut") // the same log after more was done
		l := open(t, fs, Options{Storage: storage.Options{ReadOnly: readOnly}})
		wantOld(t, l, "cut")
		must(t, l.Close())
	}
}

func TestALogInPebbleThatIsDamagedIsNotTakenOver(t *testing.T) {
	t.Parallel()
	for name, suffix := range map[string]string{"killed": ".log", "closed": ".sst"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			oldLogOn(t, fs, name)
			names, err := fs.List(testDir)
			must(t, err)
			for _, n := range names {
				if b := content(t, fs, path.Join(testDir, n)); strings.HasSuffix(n, suffix) && len(b) > 1000 {
					b[500] ^= 8
					overwrite(t, fs, path.Join(testDir, n), b)
				}
			}
			_, err = tryOpen(fs)
			if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), testDir) {
				t.Errorf("got %v", err)
			}
			after, err := fs.List(testDir)
			must(t, err)
			if n := segmentNumbers(after); len(n) > 0 {
				t.Errorf("segments %d", n)
			}
		})
	}
}

// TestALogWhoseSegmentsAreGoneIsNoNewOne although the guard says that nothing else is the log.
func TestALogWhoseSegmentsAreGoneIsNoNewOne(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	oldLogOn(t, fs, "closed")
	must(t, storage.GuardLog(fs, testDir))
	before, err := fs.List(testDir)
	must(t, err)
	if _, err := tryOpen(fs); err == nil {
		t.Error("it was opened")
	}
	after, err := fs.List(testDir)
	must(t, err)
	if !slices.Equal(storage.PebbleLogFiles(before), storage.PebbleLogFiles(after)) {
		t.Errorf("left are %q of %q", after, before)
	}
}

func TestALogInPebbleWithoutItsManifestIsNotTakenForANewOne(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]string{"killed": "marker.manifest", "closed": "marker.manifest", "cut": "MANIFEST-"} {
		for _, readOnly := range []bool{false, true} {
			fs := vfs.NewMem()
			oldLogOn(t, fs, name)
			names, err := fs.List(testDir)
			must(t, err)
			for _, n := range names {
				if strings.HasPrefix(n, gone) {
					must(t, fs.Remove(path.Join(testDir, n)))
				}
			}
			left := fs.String()
			_, err = Open(testDir, Options{Storage: storage.Options{FS: fs, ReadOnly: readOnly, Fatal: func(error) {}}})
			if err == nil || !strings.Contains(err.Error(), testDir) {
				t.Errorf("%s, read-only %v: %v", name, readOnly, err)
			}
			must(t, fs.RemoveAll(path.Join(testDir, "LOCK")))
			if after := fs.String(); after != left {
				t.Errorf("%s, read-only %v: before:\n%s\nafter:\n%s", name, readOnly, left, after)
			}
		}
	}
}

// TestAFailedWriteWhileALogIsTakenOverIsAnError: and the next start, with space again, has the log.
func TestAFailedWriteWhileALogIsTakenOverIsAnError(t *testing.T) {
	t.Parallel()
	for after := range int64(30) {
		mem := vfs.NewCrashableMem()
		oldLogOn(t, mem, "killed")
		fs := newFaultyFS(mem, func(errorfs.Op) bool { return true })
		fs.left.Store(after)
		l, err := tryOpen(fs)
		if err == nil {
			_ = l.Close() // it may have needed the disk
		}
		l = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
		wantOld(t, l, "killed")
		must(t, l.Close())
		l = open(t, mem, Options{})
		wantOld(t, l, "killed")
		must(t, l.Close())
	}
}

func TestWhatAnEarlierReleaseLeavesBesideTheSegmentsIsRemoved(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	l := bootstrapped(t, fs, 5, Options{})
	must(t, l.Close())
	oldLogOn(t, fs, "killed")
	l = open(t, fs, Options{})
	wantLog(t, l, Mark{Generation: 1}, run(1, 6, 1))
	must(t, l.Close())
	names, err := fs.List(testDir)
	must(t, err)
	if left := storage.PebbleLogFiles(names); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}
