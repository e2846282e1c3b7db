package storage

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// recorder is an Options.Fatal that counts.
type recorder struct {
	calls  atomic.Int32
	called chan error
}

func newRecorder() *recorder { return &recorder{called: make(chan error, 10)} }

func (r *recorder) fatal(err error) {
	r.calls.Add(1)
	r.called <- err
}

func TestAStateThatCanNotFlushStopsAndIsWholeAfterARestart(t *testing.T) {
	t.Parallel()
	for _, after := range []int64{0, 1, 2, 3, 5, 8, 13} {
		t.Run(fmt.Sprintf("after %d writes", after), func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			var full atomic.Bool
			var left atomic.Int64
			left.Store(after)
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && left.Add(-1) < 0 {
					return syscall.ENOSPC
				}
				return nil
			}))
			r := newRecorder()
			told := make(chan struct{}, 10)
			db := openTestState(t, fs, Options{Fatal: r.fatal, OnFlush: func() { told <- struct{}{} }})
			key := AppendPlainKey(nil, SpaceMeta, []byte("applied"))
			set(t, db, key, "1")
			if err := db.Flush(); err != nil {
				t.Fatal(err)
			}
			<-told
			set(t, db, key, "2")
			full.Store(true)
			err := db.Flush()
			if err == nil { // it needed fewer writes
				full.Store(false)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "data/state") {
				t.Fatalf("flush: %v", err)
			}
			if err := <-r.called; !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "data/state") {
				t.Fatalf("fatal: %v", err)
			}
			full.Store(false)
			_, _, durErr := db.GetDurable(key)
			for _, err := range []error{durErr, db.Flush(), db.Commit(db.NewBatch()), db.Close()} {
				if !errors.Is(err, ErrFailed) {
					t.Fatalf("after the failure: %v", err)
				}
			}
			if r.calls.Load() != 1 || len(told) != 0 {
				t.Fatalf("Fatal was called %d times, a flush told %d times", r.calls.Load(), len(told))
			}
			for _, restarted := range []FS{mem.CrashClone(vfs.CrashCloneCfg{}), mem} {
				db = openTestState(t, restarted, Options{})
				if got := get(t, db, key); got != "1" && got != "2" {
					t.Fatalf("after the restart: %s", got)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestAFlippedBitInATableIsAnErrorAndNeverWrongData(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	db := openTestState(t, mem, Options{})
	want := map[string]string{}
	for i := range 300 {
		key := AppendDataKey(nil, fmt.Appendf(nil, "key %d", i), int64(i+2), 0)
		val := strings.Repeat(fmt.Sprintf("%d ", i*i), 20)
		set(t, db, key, val)
		want[string(key)] = val
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := mem.List("data/state")
	if err != nil {
		t.Fatal(err)
	}
	flips, noticed := 0, 0
	for _, name := range names {
		if path.Ext(name) != ".sst" {
			continue
		}
		info, err := mem.Stat("data/state/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < info.Size(); at += max(1, info.Size()/150) {
			flips++
			if flipAndRead(t, mem, "data/state/"+name, at, want) {
				noticed++
			}
		}
	}
	if flips < 100 || noticed < flips*9/10 {
		t.Fatalf("%d flips, %d noticed", flips, noticed)
	}
}

// flipAndRead reads everything after a flip and tells whether an error was met.
func flipAndRead(t *testing.T, mem *vfs.MemFS, name string, at int64, want map[string]string) bool {
	t.Helper()
	fs := mem.CrashClone(vfs.CrashCloneCfg{})
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err = f.ReadAt(b, at); err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b, at)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var fatal error
	db, err := OpenState("data/state", Options{FS: fs, Fatal: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		fatal = err
	}})
	if err == nil {
		err = readAll(t, db, want)
		_ = db.Close() // fails when something was met
	}
	if err == nil {
		return false
	}
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "data/state") {
		t.Fatalf("a flip at %d: %v", at, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if fatal != nil && !strings.Contains(fatal.Error(), path.Base(name)) {
		t.Fatalf("a flip at %d of %s: the report names no file: %v", at, name, fatal)
	}
	return true
}

func readAll(t *testing.T, db *DB, want map[string]string) error {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if want[string(it.Key())] != string(it.Value()) {
			t.Fatalf("key %q is wrong", it.Key())
		}
		n++
	}
	if err := it.Close(); err != nil {
		return db.Explain("reading", err)
	}
	if n != len(want) {
		t.Fatalf("%d keys of %d without an error", n, len(want))
	}
	for key, val := range want {
		if _, err := db.Get([]byte(key), func(v []byte) error {
			if string(v) != val {
				t.Fatalf("key %q is wrong", key)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// withoutTables returns a filesystem on which, between stick and release, whoever makes a table waits.
func withoutTables(on vfs.FS) (fs vfs.FS, stick, release func()) {
	released := make(chan struct{})
	var stuck atomic.Bool
	fs = errorfs.Wrap(on, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if stuck.Load() && op.Kind == errorfs.OpCreate && path.Ext(op.Path) == tableSuffix {
			<-released
		}
		return nil
	}))
	return fs, func() { stuck.Store(true) }, func() { close(released) }
}

func TestAWriteStallBeyondItsBoundIsAFailure(t *testing.T) {
	t.Parallel()
	fs, stick, release := withoutTables(vfs.NewMem())
	manual := clock.NewManual(time.Unix(0, 0))
	r := newRecorder()
	db := openTestState(t, fs, Options{Fatal: r.fatal, Clock: manual, MemTableBytes: 64 << 10, StallMax: time.Minute})
	stick()
	ended := make(chan error)
	go func() {
		for i := range int64(10_000) {
			b := db.NewBatch()
			if err := errors.Join(b.Set(AppendDataKey(nil, []byte("k"), i+1, 0), make([]byte, 4096), nil), db.Commit(b), b.Close()); err != nil {
				ended <- err
				return
			}
		}
		ended <- errors.New("nothing stalled")
	}()
	manual.WaitPending(1)
	manual.Advance(time.Minute)
	if err := <-r.called; !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "data/state") {
		t.Fatalf("fatal: %v", err)
	}
	release()
	if err := <-ended; !errors.Is(err, ErrFailed) {
		t.Fatalf("the writer got %v", err)
	}
	if err := db.Close(); !errors.Is(err, ErrFailed) {
		t.Fatalf("close: %v", err)
	}
}

// TestACopyThatCannotBeMadeIsAnErrorAndNoFailure: whoever wants one is told, and the database goes on.
func TestACopyThatCannotBeMadeIsAnErrorAndNoFailure(t *testing.T) {
	t.Parallel()
	for how, copied := range map[string]func(*DB, FS) error{
		"opened": func(db *DB, fs FS) error {
			c, err := db.OpenCopy("data/copy", Options{FS: fs})
			if c != nil {
				err = errors.Join(err, c.Close())
			}
			return err
		},
		"a checkpoint": func(db *DB, _ FS) error { return db.Checkpoint("data/copy") },
	} {
		for _, file := range []string{manifestPrefix, markerPrefix, "OPTIONS-"} {
			mem := vfs.NewMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if strings.HasPrefix(op.Path, "data/copy/"+file) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					return syscall.EIO
				}
				return nil
			}))
			db := openTestState(t, fs, Options{})
			set(t, db, AppendPlainKey(nil, SpaceMeta, []byte("applied")), "1")
			if err := copied(db, fs); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s fails, and the copy, %s: %v", file, how, err)
			}
			if err := errors.Join(db.Err(), db.Close()); err != nil {
				t.Errorf("%s of a copy, %s, fails, and the database, too: %v", file, how, err)
			}
		}
	}
}
