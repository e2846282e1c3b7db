package raftlog

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
)

// closing is a filesystem on which no file can be closed once it fails.
type closing struct {
	storage.FS
	fails atomic.Bool
}

type closingFile struct {
	vfs.File
	fs *closing
}

func (c *closing) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return closingFile{f, c}, nil
}

// Create implements vfs.FS.
func (c *closing) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return c.wrap(c.FS.Create(name, category))
}

// OpenReadWrite implements vfs.FS.
func (c *closing) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return c.wrap(c.FS.OpenReadWrite(name, category, opts...))
}

// Close implements vfs.File.
func (f closingFile) Close() error {
	err := f.File.Close()
	if f.fs.fails.Load() {
		err = errors.Join(err, syscall.EIO)
	}
	return err
}

// failures counts what a log says to Options.Fatal.
type failures struct {
	calls atomic.Int32
	last  atomic.Pointer[error]
}

func (f *failures) fatal(err error) {
	f.calls.Add(1)
	f.last.Store(&err)
}

// wantFailed checks that err is the failure of a log by cause, which it has told, and that it stays failed on a disk that works again.
func (f *failures) wantFailed(t *testing.T, l *Log, err, cause error) {
	t.Helper()
	if !errors.Is(err, storage.ErrFailed) || !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if f.calls.Load() != 1 || !errors.Is(*f.last.Load(), cause) {
		t.Errorf("Fatal was called %d times", f.calls.Load())
	}
	last := l.LastIndex()
	for _, err := range []error{l.Append(nil, run(last+1, last+2, 2), true), l.Cut(last), l.Close()} {
		if !errors.Is(err, storage.ErrFailed) {
			t.Errorf("after the failure: %v", err)
		}
	}
}

// TestNoSegmentFollowsOneThatIsNotDurable: what nobody has asked to be synced is, before the next segment begins, since a start takes
// damage in any but the newest for damage. When that fails there is no next segment.
func TestNoSegmentFollowsOneThatIsNotDurable(t *testing.T) {
	t.Parallel()
	for name, noSync := range map[string]bool{"appended without a sync": false, "in a log that never syncs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			fs := newFaultyFS(mem, func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSyncData })
			var f failures
			l := bootstrapped(t, fs, 3, Options{SegmentBytes: 1000, NoSync: noSync, Storage: storage.Options{Fatal: f.fatal}})
			next := uint64(4)
			for ; l.current.end < l.segmentBytes; next++ {
				must(t, l.Append(nil, run(next, next+1, 1), false))
			}
			fs.left.Store(0)
			err := l.Append(nil, run(next, next+1, 1), false)
			fs.left.Store(1 << 60)
			f.wantFailed(t, l, err, syscall.ENOSPC)
			if numbers := numbersIn(t, mem); !slices.Equal(numbers, []uint64{1}) || l.LastIndex() != next-1 {
				t.Errorf("segments %d, and the log ends at %d, not %d", numbers, l.LastIndex(), next-1)
			}
			l = open(t, mem, Options{})
			wantLog(t, l, Mark{Generation: 1}, run(1, next, 1))
			must(t, l.Close())
			if noSync {
				return // a crash may leave anything
			}
			l = open(t, mem.CrashClone(vfs.CrashCloneCfg{}), Options{})
			wantLog(t, l, Mark{Generation: 1}, run(1, l.LastIndex()+1, 1))
			must(t, l.Close())
		})
	}
}

// TestSegmentsGoOnlyBehindWhatIsDurable: a cut and an installation make durable what says that segments hold nothing any more, and then
// remove them. Whatever of it fails ends the log, and what is left is the log before or after.
func TestSegmentsGoOnlyBehindWhatIsDurable(t *testing.T) {
	t.Parallel()
	segmentSync := func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSyncData }
	remove := func(op errorfs.Op) bool {
		return op.Kind == errorfs.OpRemove && strings.HasSuffix(op.Path, segmentSuffix)
	}
	dirSync := func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileSync && op.Path == testDir }
	cut := func(l *Log) error { return l.Cut(80) }
	install := func(l *Log) error { return l.Install(Mark{200, 2, 2}, HardState{2, 0, 200}, run(201, 203, 2)) }
	for name, c := range map[string]struct {
		do      func(*Log) error
		noSync  bool
		fails   func(errorfs.Op) bool // nil for closing files
		after   int64
		removed int  // segments, before it fails
		undone  bool // it may be as if it had never been begun
	}{
		"a cut is not synced":                                {do: cut, fails: segmentSync, undone: true},
		"a cut removes no segment":                           {do: cut, fails: remove},
		"a cut removes one segment":                          {do: cut, fails: remove, after: 1, removed: 1},
		"the directory is not synced after a cut":            {do: cut, fails: dirSync, removed: -1},
		"a segment is not closed after a cut":                {do: cut, removed: -1},
		"an installation is not synced in one that syncs no": {do: install, noSync: true, fails: segmentSync, undone: true},
		"an installation removes no segment":                 {do: install, fails: remove},
		"an installation removes one segment":                {do: install, fails: remove, after: 1, removed: 1},
		"a segment is not closed after an installation":      {do: install, removed: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			segmented(t, mem)
			cause, match := error(syscall.ENOSPC), c.fails
			if match == nil {
				cause, match = syscall.EIO, func(errorfs.Op) bool { return false }
			}
			fs := newFaultyFS(mem, match)
			files := &closing{FS: fs}
			var f failures
			l := open(t, files, Options{SegmentBytes: 1 << 20, NoSync: c.noSync, Storage: storage.Options{Fatal: f.fatal}})
			before := numbersIn(t, mem)
			fs.left.Store(c.after)
			files.fails.Store(c.fails == nil)
			err := c.do(l)
			fs.left.Store(1 << 60)
			files.fails.Store(false)
			f.wantFailed(t, l, err, cause)
			if after := numbersIn(t, mem); c.removed >= 0 && !slices.Equal(after, before[c.removed:]) || c.removed < 0 && len(after) >= len(before) {
				t.Errorf("segments %d, before there were %d", after, before)
			}
			for _, restarted := range []storage.FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
				l := open(t, restarted, Options{})
				mark, want := Mark{Generation: 1}, run(1, 101, 1)
				if done := l.Mark() != mark; done || !c.undone {
					mark, want = doneBy(t, c.do)
				}
				wantLog(t, l, mark, want)
				must(t, l.Close())
			}
		})
	}
}

// doneBy returns what a log of a hundred entries is after do.
func doneBy(t *testing.T, do func(*Log) error) (Mark, []*raftpb.Entry) {
	t.Helper()
	fs := vfs.NewMem()
	segmented(t, fs)
	l := open(t, fs, Options{})
	must(t, do(l))
	mark := l.Mark()
	entries, err := l.Entries(mark.Index+1, l.LastIndex()+1, 1<<40)
	must(t, err)
	must(t, l.Close())
	return mark, entries
}
