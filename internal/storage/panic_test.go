package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// closedState makes a state in which one key has the value 1.
func closedState(t *testing.T) (mem *vfs.MemFS, key []byte) {
	t.Helper()
	mem, key = vfs.NewCrashableMem(), AppendPlainKey(nil, SpaceMeta, []byte("applied"))
	db := openTestState(t, mem, Options{})
	set(t, db, key, "1")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, key
}

// TestACommitThatPebbleRefusesFailsTheState, whether it does so by an error or a panic: it may be a bug of ours, and then nothing is
// known about what was written.
func TestACommitThatPebbleRefusesFailsTheState(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		readOnly bool
		batch    func(t *testing.T, db *DB) *Batch
		says     string
	}{
		"a batch that was committed": {says: "already comm", batch: func(t *testing.T, db *DB) *Batch {
			b := db.NewBatch()
			if err := db.Commit(b); err != nil {
				t.Fatal(err)
			}
			return b
		}},
		"a batch of another state": {says: "db mismatch", batch: func(t *testing.T, _ *DB) *Batch {
			other := openTestState(t, vfs.NewMem(), Options{})
			b := other.NewBatch()
			t.Cleanup(func() {
				if err := errors.Join(b.Close(), other.Close()); err != nil {
					t.Error(err)
				}
			})
			return b
		}},
		"a state that is open for reading alone": {says: "read-only", readOnly: true, batch: func(_ *testing.T, db *DB) *Batch {
			return db.NewBatch()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, key := closedState(t)
			r := newRecorder()
			db := openTestState(t, mem, Options{Fatal: r.fatal, ReadOnly: c.readOnly})
			err := db.Commit(c.batch(t, db))
			for _, err := range []error{err, <-r.called} {
				if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "committing a batch in data/state: ") ||
					!strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v", err)
				}
			}
			_, getErr := db.Get(key, func([]byte) error { return nil })
			for _, err := range []error{getErr, db.Flush(), db.Commit(db.NewBatch()), db.Close()} {
				if !errors.Is(err, ErrFailed) {
					t.Errorf("after the failure: %v", err)
				}
			}
			if r.calls.Load() != 1 {
				t.Errorf("Fatal was called %d times", r.calls.Load())
			}
			wantAfterACrash(t, mem, key, "1")
		})
	}
}

// wantAfterACrash checks what key has in the states that a crash leaves, with nothing and with all of what was not synced.
func wantAfterACrash(t *testing.T, mem *vfs.MemFS, key []byte, want string) {
	t.Helper()
	for _, percent := range []int{0, 100} {
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 1))})
		db := openTestState(t, crashed, Options{})
		if got := get(t, db, key); got != want {
			t.Errorf("after a crash that leaves %d %% of what was not synced: %s, want %s", percent, got, want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// panicking is a handler of logs that panics at a message.
type panicking string

func (panicking) Enabled(context.Context, slog.Level) bool { return true }
func (h panicking) WithAttrs([]slog.Attr) slog.Handler     { return h }
func (h panicking) WithGroup(string) slog.Handler          { return h }
func (h panicking) Handle(_ context.Context, r slog.Record) error {
	if r.Message == string(h) {
		panic("the logger broke down")
	}
	return nil
}

// TestAStateWhosePebblePanickedWithItsLocksHeldIsClosed: Pebble tells of a write stall while it holds the lock of commits, which a panic
// there leaves held for ever.
func TestAStateWhosePebblePanickedWithItsLocksHeldIsClosed(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	fs, stick, release := withoutTables(mem)
	r := newRecorder()
	db := openTestState(t, fs, Options{Fatal: r.fatal, MemTableBytes: 64 << 10,
		Logger: slog.New(panicking("writes wait for flushes or compactions"))})
	key := AppendPlainKey(nil, SpaceMeta, []byte("applied"))
	set(t, db, key, "1")
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	stick()
	var err error
	for i := int64(0); i < 10_000 && err == nil; i++ {
		b := db.NewBatch()
		err = errors.Join(b.Set(AppendDataKey(nil, []byte("k"), i+1, 0), make([]byte, 4096), nil), db.Commit(b))
	}
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "the logger broke down") {
		t.Fatalf("commit: %v", err)
	}
	release()
	for _, err := range []error{<-r.called, db.Flush(), db.Commit(db.NewBatch()), db.Close()} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("after the failure: %v", err)
		}
	}
	if r.calls.Load() != 1 {
		t.Errorf("Fatal was called %d times", r.calls.Load())
	}
	// Pebble was not closed and may still be about: nobody else gets the directory as long as the process lives.
	if _, err := OpenState("data/state", Options{FS: mem}); !errors.Is(err, ErrLocked) {
		t.Errorf("a second open: %v", err)
	}
	wantAfterACrash(t, mem, key, "1")
}

// TestAFailedOpenLeavesTheStateToTheNextOne: at whichever write it fails, also where Pebble does not see the failure and is left behind.
func TestAFailedOpenLeavesTheStateToTheNextOne(t *testing.T) {
	t.Parallel()
	for name, once := range map[string]bool{"one write fails": true, "all writes fail from one on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left, returned := 0, 0
			for at := int64(1); failsToOpen(t, at, once, &left, &returned); at++ {
			}
			if left == 0 || returned == 0 {
				t.Errorf("Pebble was left behind %d times, and returned an error %d times", left, returned)
			}
		})
	}
}

// failsToOpen opens a state whose write number at fails, and says whether that matters.
func failsToOpen(t *testing.T, at int64, once bool, left, returned *int) bool {
	t.Helper()
	mem, key := closedState(t)
	var writes atomic.Int64
	var whole atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && !whole.Load() {
			if n := writes.Add(1); n == at || n > at && !once {
				return syscall.ENOSPC
			}
		}
		return nil
	}))
	r := newRecorder()
	db, err := OpenState("data/state", Options{FS: fs, Fatal: r.fatal})
	whole.Store(true)
	if err == nil {
		_ = db.Close() // fails when a write of the background did
		return false
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "data") || r.calls.Load() != 0 {
		t.Fatalf("write %d: %v; Fatal was called %d times", at, err, r.calls.Load())
	}
	if errors.Is(err, ErrFailed) {
		*left++
	} else {
		*returned++
	}
	wantAfterACrash(t, mem, key, "1")
	db = openTestState(t, mem, Options{})
	if got := get(t, db, key); got != "1" {
		t.Fatalf("write %d: after the next open: %s", at, got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(fmt.Errorf("write %d: %w", at, err))
	}
	return true
}

// withHeldTables returns a filesystem on which whoever opens a table to read it says so and waits for the release: compactions, and those alone
// while nobody reads.
func withHeldTables(on vfs.FS) (fs vfs.FS, opens <-chan struct{}, release func()) {
	opened, released := make(chan struct{}, 100), make(chan struct{})
	fs = errorfs.Wrap(on, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpen && path.Ext(op.Path) == tableSuffix {
			opened <- struct{}{}
			<-released
		}
		return nil
	}))
	return fs, opened, func() { close(released) }
}

// dueState makes a state in which a compaction is due as soon as it is opened, and one key has the value 4.
func dueState(t *testing.T) (mem *vfs.MemFS, key []byte) {
	t.Helper()
	made, key := vfs.NewCrashableMem(), AppendPlainKey(nil, SpaceMeta, []byte("applied"))
	fs, opens, release := withHeldTables(made)
	db := openTestState(t, fs, Options{})
	for i := range 4 {
		set(t, db, key, fmt.Sprint(i+1))
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	<-opens
	mem = made.CrashClone(vfs.CrashCloneCfg{})
	release()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return mem, key
}

// TestAnOpenThatFailsBesideACompactionIsAbandoned: Pebble must not get to close what the compaction uses, or is about to, as that panics then in a
// goroutine of its own. It schedules the compaction before it writes its options.
func TestAnOpenThatFailsBesideACompactionIsAbandoned(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func(op errorfs.Op) bool{
		"its options are not created": func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && path.Ext(op.Path) == ".dbtmp" },
		"nor written":                 func(op errorfs.Op) bool { return op.Kind == errorfs.OpFileWrite && path.Ext(op.Path) == ".dbtmp" },
		"nor synced":                  func(op errorfs.Op) bool { return syncs(op.Kind) && path.Ext(op.Path) == ".dbtmp" },
		"nor renamed":                 func(op errorfs.Op) bool { return op.Kind == errorfs.OpRename },
		"the directory is not synced": func(op errorfs.Op) bool { return syncs(op.Kind) && op.Path == "data/state" },
		"nor listed behind that":      func(op errorfs.Op) bool { return op.Kind == errorfs.OpList },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem, key := dueState(t)
			var flushed atomic.Bool // by Open, which schedules compactions then and makes a log next
			var after atomic.Int32
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpCreate && path.Ext(op.Path) == ".log" {
					flushed.Store(true)
				}
				if flushed.Load() && fails(op) {
					after.Add(1)
					return syscall.EIO
				}
				return nil
			}))
			r := newRecorder()
			_, err := OpenState("data/state", Options{FS: fs, Fatal: r.fatal})
			if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "data/state") {
				t.Errorf("Pebble was not left as it was: %v", err)
			}
			for _, fs := range []FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
				db := openTestState(t, fs, Options{})
				if got := get(t, db, key); got != "4" {
					t.Errorf("after the next open: %s", got)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
			if r.calls.Load() != 0 || after.Load() != 1 {
				t.Errorf("Fatal was called %d times, and the operation made %d times", r.calls.Load(), after.Load())
			}
		})
	}
}

// syncs says whether an operation makes a file or a directory durable.
func syncs(kind errorfs.OpKind) bool {
	return kind == errorfs.OpFileSync || kind == errorfs.OpFileSyncData || kind == errorfs.OpFileSyncTo
}
