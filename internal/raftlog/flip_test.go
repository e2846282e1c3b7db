package raftlog

import (
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A record begins with a header of 44 bytes, so a step of 5 meets each header and each body.
var flipEvery = flag.Int("flip.every", 5, "flip a bit in every n-th byte")

// newestOf returns the name of the newest segment and what is in it.
func newestOf(t *testing.T, fs storage.FS) (name string, data []byte) {
	t.Helper()
	names, err := fs.List(testDir)
	must(t, err)
	for _, n := range names {
		if path.Ext(n) == segmentSuffix && n > name {
			name = n
		}
	}
	name = path.Join(testDir, name)
	f, err := fs.Open(name)
	must(t, err)
	defer f.Close()
	data, err = io.ReadAll(f)
	must(t, err)
	return name, data
}

// flip returns a copy of the filesystem as after a crash, with so many percent of the unsynced data, and with one bit of a
// file changed.
func flip(t *testing.T, mem *vfs.MemFS, name string, at int, unsynced int) storage.FS {
	t.Helper()
	fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(1, 2))})
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	b := make([]byte, 1)
	_, err = f.ReadAt(b, int64(at))
	must(t, err)
	b[0] ^= 1 << (at % 8)
	_, err = f.WriteAt(b, int64(at))
	must(t, err)
	must(t, f.Close())
	return fs
}

// grown makes a log by steps and returns where its last record ended after each.
func grown(t *testing.T, mem *vfs.MemFS, o Options, steps ...func(l *Log) error) (l *Log, wal string, ends []int) {
	t.Helper()
	l = bootstrapped(t, mem, 3, o)
	wal, _ = newestOf(t, mem)
	ends = append(ends, int(l.current.end))
	for _, step := range steps {
		must(t, step(l))
		ends = append(ends, int(l.current.end))
	}
	return l, wal, ends
}

func appendRun(lo, hi, term uint64) func(*Log) error {
	return func(l *Log) error { return l.Append(nil, run(lo, hi, term), true) }
}

func TestAFlippedBitInASyncedRecordIsRefusedUnlessItIsTheLast(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]bool{"a file that ends with its last record": false, "a file with room ahead": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			var o Options
			if ahead {
				o = withRoom(mem)
			}
			_, wal, ends := grown(t, mem, o, appendRun(4, 8, 1), appendRun(8, 40, 1), appendRun(40, 41, 2))
			before, last := ends[len(ends)-2], ends[len(ends)-1]
			for at := 0; at < before; at += *flipEvery {
				wantRefused(t, mem, wal, at)
			}
			// Nothing after the last record proves that it was synced: it is taken for a torn tail. What is lost is the
			// last append, whole.
			for at := before; at < last; at += *flipEvery {
				l := open(t, flip(t, mem, wal, at, 0), Options{})
				wantLog(t, l, Mark{Generation: 1}, run(1, 40, 1))
				must(t, l.Close())
			}
			_, data := newestOf(t, mem)
			if (len(data) > last) != ahead {
				t.Fatalf("the file has %d bytes, the last record ends at %d", len(data), last)
			}
			for at := last; at < len(data); at += 97 { // nothing was written there
				fs := flip(t, mem, wal, at, 0)
				l := open(t, fs, withRoom(fs))
				wantLog(t, l, Mark{Generation: 1}, append(run(1, 40, 1), run(40, 41, 2)...))
				must(t, l.Close())
			}
		})
	}
}

// wantRefused checks that the log is refused with a bit changed at a place of its file.
func wantRefused(t *testing.T, mem *vfs.MemFS, wal string, at int) {
	t.Helper()
	l, err := tryOpen(flip(t, mem, wal, at, 0))
	if err == nil {
		t.Errorf("a flip at %d was not noticed; the log ends at %d", at, l.LastIndex())
		must(t, l.Close())
		return
	}
	if !errors.Is(err, storage.ErrCorrupt) || !strings.Contains(err.Error(), path.Base(wal)) ||
		!strings.Contains(err.Error(), testDir) || !strings.Contains(err.Error(), storage.Remedy) {
		t.Fatalf("a flip at %d: %v", at, err)
	}
}

func TestASealProvesTheLastRecord(t *testing.T) {
	t.Parallel()
	manual := clock.NewManual(time.Unix(0, 0))
	cases := map[string]struct {
		o    Options
		seal func(l *Log) error
	}{
		"asked for": {Options{}, func(l *Log) error { return l.do(record{kind: kindSeal}, true) }},
		"after a second without an append": {Options{Clock: manual, SealAfter: time.Second}, func(l *Log) error {
			l.KeepSealed()
			manual.WaitPending(1)
			manual.Advance(time.Second)
			return nil
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			l, wal, ends := grown(t, mem, c.o, appendRun(4, 9, 1))
			must(t, c.seal(l))
			waitFor(func() bool { _, data := newestOf(t, mem.CrashClone(vfs.CrashCloneCfg{})); return len(data) > ends[1] })
			for at := 0; at < ends[1]; at += *flipEvery {
				if _, err := tryOpen(flip(t, mem, wal, at, 0)); !errors.Is(err, storage.ErrCorrupt) {
					t.Fatalf("a flip at %d of %d: %v", at, ends[1], err)
				}
			}
			must(t, l.Close())
		})
	}
}

func TestACleanCloseProvesEveryRecord(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(fs storage.FS) Options{
		"without room": func(storage.FS) Options { return Options{} },
		"with room":    withRoom,
		"with room that is not cut off": func(fs storage.FS) Options {
			o := withRoom(fs)
			o.room.cut = func(*segment) error { return errNoRoom }
			return o
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			l, wal, ends := grown(t, mem, option(mem), appendRun(4, 9, 1))
			must(t, l.Close())
			for at := 0; at < ends[1]; at += *flipEvery {
				wantRefused(t, mem, wal, at)
			}
		})
	}
}

func TestAFlippedBitInTheUnsyncedTailIsCutOff(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	l, wal, ends := grown(t, mem, Options{}, appendRun(4, 8, 1))
	synced := ends[1]
	// Pebble writes a block of 32 KiB once it is full, synced or not.
	for at := uint64(8); at < 1208; at += 100 {
		must(t, l.Append(nil, run(at, at+100, 1), false))
	}
	const written = 64 << 10
	waitFor(func() bool { _, data := newestOf(t, mem); return len(data) >= written })
	_, data := newestOf(t, mem)
	for at := synced; at < len(data); at += 1021 {
		got := open(t, flip(t, mem, wal, at, 100), Options{})
		last := got.LastIndex()
		if last < 7 || last > 1207 || last%100 != 7 {
			t.Fatalf("a flip at %d leaves a log that ends at %d", at, last)
		}
		if last == 1207 {
			t.Fatalf("a flip at %d was not noticed", at)
		}
		wantLog(t, got, Mark{Generation: 1}, run(1, last+1, 1))
		must(t, got.Close())
	}
	must(t, l.Close())
}

// waitFor returns once the condition holds; the test's time limit is the bound.
func waitFor(holds func() bool) {
	for !holds() {
		runtime.Gosched()
	}
}

func tryOpen(fs storage.FS) (*Log, error) {
	return Open(testDir, Options{Storage: storage.Options{FS: fs, Fatal: func(error) {}}})
}
