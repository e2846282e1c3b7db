package raftlog

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// faultyFS fails the write operations from the n-th on that match.
type faultyFS struct {
	storage.FS
	left  atomic.Int64
	match func(op errorfs.Op) bool
}

func newFaultyFS(fs storage.FS, match func(op errorfs.Op) bool) *faultyFS {
	f := &faultyFS{match: match}
	f.left.Store(1 << 60)
	f.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && f.match(op) && f.left.Add(-1) < 0 {
			return syscall.ENOSPC
		}
		return nil
	}))
	return f
}

func TestAFailedWriteIsNeverAcknowledged(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(op errorfs.Op) bool{
		"any write": func(errorfs.Op) bool { return true },
		"any sync": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		},
		"creating files": func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate },
	}
	for name, match := range kinds {
		for _, after := range []int64{0, 1, 2, 5, 20, 60} {
			t.Run(fmt.Sprintf("%s fails after %d", name, after), func(t *testing.T) {
				t.Parallel()
				testFailure(t, match, after, nil)
			})
			t.Run(fmt.Sprintf("%s fails after %d, with room ahead", name, after), func(t *testing.T) {
				t.Parallel()
				testFailure(t, match, after, memoryRoom)
			})
		}
	}
}

// failingRead returns the filesystem with an error of its at-th read. over says whether there were fewer, and ends that.
func failingRead(of storage.FS, at int64) (fs storage.FS, over func() bool) {
	var reads atomic.Int64
	return errorfs.Wrap(of, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead && reads.Add(1) == at {
			return syscall.EIO
		}
		return nil
	})), func() bool { return reads.Swap(at) < at }
}

// TestAnErrorOfAnyReadRefusesTheOpen with that error, and as no damage, unless the log is whole without what was to be read.
func TestAnErrorOfAnyReadRefusesTheOpen(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	segmented(t, mem)
	refused := 0
	for at := int64(1); ; at++ {
		fs, over := failingRead(mem, at)
		l, err := tryOpen(fs)
		switch {
		case err == nil:
			all := over()
			wantLog(t, l, Mark{Generation: 1}, run(1, 101, 1))
			must(t, l.Close())
			if all {
				if refused < 20 {
					t.Errorf("%d reads that matter, of a log of many segments", refused)
				}
				return
			}
		case !errors.Is(err, syscall.EIO), errors.Is(err, storage.ErrCorrupt):
			t.Fatalf("read %d: %v", at, err)
		default:
			refused++
		}
	}
}

func testFailure(t *testing.T, match func(op errorfs.Op) bool, after int64, ahead func(storage.FS) *room) {
	mem := vfs.NewCrashableMem()
	fs := newFaultyFS(mem, match)
	var fatal atomic.Int32
	var reason atomic.Pointer[error]
	o := Options{SegmentBytes: 8 << 10, Storage: storage.Options{Fatal: func(err error) {
		fatal.Add(1)
		reason.Store(&err)
	}}}
	if ahead != nil {
		o.room = ahead(fs)
	}
	l := bootstrapped(t, fs, 3, o)
	fs.left.Store(after)
	acknowledged := run(1, 4, 1)
	var attempted []*raftpb.Entry
	for i := 0; ; i++ {
		if i == 5000 {
			t.Fatal("5,000 appends without an error")
		}
		next := l.LastIndex() + 1
		attempted = run(next, next+20, 2)
		if err := l.Append(nil, attempted, true); err != nil {
			if !errors.Is(err, storage.ErrFailed) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("append: %v", err)
			}
			break
		}
		acknowledged = append(acknowledged, attempted...)
	}
	if fatal.Load() != 1 || !errors.Is(*reason.Load(), syscall.ENOSPC) {
		t.Fatalf("Fatal was called %d times", fatal.Load())
	}
	// The disk works again: a failed log stays failed all the same.
	fs.left.Store(1 << 60)
	last := l.LastIndex()
	for _, err := range []error{l.Append(nil, run(last+1, last+2, 2), true), l.Cut(last), l.Close()} {
		if !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("after a failure: %v", err)
		}
	}
	if last != uint64(len(acknowledged)) {
		t.Fatalf("the log says %d, acknowledged are %d", last, len(acknowledged))
	}
	// What is there after a restart: everything acknowledged, and the attempted batch whole or not at all.
	for _, restarted := range []storage.FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
		l = open(t, restarted, Options{})
		want := acknowledged
		if l.LastIndex() != last {
			want = append(want[:last:last], attempted...)
		}
		wantLog(t, l, Mark{Generation: 1}, want)
		must(t, l.Close())
	}
}

func TestALogThatCanNotBeCreatedIsAnErrorAndNotFatal(t *testing.T) {
	t.Parallel()
	for after := range int64(40) {
		mem := vfs.NewCrashableMem()
		fs := newFaultyFS(mem, func(errorfs.Op) bool { return true })
		fs.left.Store(after)
		fatal := false
		l, err := Open(testDir, Options{Storage: storage.Options{FS: fs, Fatal: func(error) { fatal = true }}})
		if err != nil && (!errors.Is(err, syscall.ENOSPC) || fatal) {
			t.Fatalf("after %d writes: %v, fatal %v", after, err, fatal)
		}
		if err == nil {
			_ = l.Close() // may or may not have needed the disk
		}
		// With space again it starts.
		l = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
		if l.Initialised() {
			t.Fatalf("after %d writes: initialised without a bootstrap", after)
		}
		must(t, l.Close())
	}
}
