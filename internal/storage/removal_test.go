package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// removals looks, before each file is removed, at what a crash would leave if it lost all that is not synced, but for the removals.
type removals struct {
	vfs.FS
	mem   *vfs.MemFS
	whole func(*vfs.MemFS) error
	lies  bool // manifests are not synced

	mu    sync.Mutex
	gone  []string
	kinds map[string]int
	wrong []string
}

func (r *removals) Remove(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.mem.CrashClone(vfs.CrashCloneCfg{})
	r.gone = append(r.gone, name)
	for _, n := range r.gone {
		if err := left.Remove(n); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	r.kinds[strings.Trim(path.Base(name), "0123456789")]++
	if err := r.whole(left); err != nil {
		r.wrong = append(r.wrong, fmt.Sprintf("%s is removed: %v", name, err))
	}
	return r.FS.Remove(name)
}

func (r *removals) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := r.FS.Create(name, c)
	if err == nil && r.lies && strings.HasPrefix(path.Base(name), manifestPrefix) {
		f = looseFile{f}
	}
	return f, err
}

// openRotating opens a state that begins a manifest after every few edits.
func openRotating(t *testing.T, fs FS) *DB {
	t.Helper()
	const dir = "data/state"
	o := Options{FS: fs, Fatal: func(err error) { t.Errorf("fatal: %v", err) }}.withDefaults(stateCacheBytes, stateMemTableBytes)
	if err := MakeDirs(fs, dir); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDatabase(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	p := stateOptions(o)
	p.MaxManifestFileSize = 1
	db, _, err := openLocked(dir, o, p, nil, lock)
	if err != nil {
		t.Fatal(errors.Join(err, lock.Close()))
	}
	return db
}

const (
	removalKeys   = 40
	removalRounds = 16
)

func removalKey(i int) []byte { return AppendDataKey(nil, fmt.Appendf(nil, "key %d", i), 2, 0) }

// wholeSince says whether a state can be opened and has all keys as of a round, or a later one.
func wholeSince(fs *vfs.MemFS, round int) (err error) {
	db, err := OpenState("data/state", Options{FS: fs, Fatal: func(error) {}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for i := range removalKeys {
		got := -1
		found, err := db.Get(removalKey(i), func(v []byte) error {
			_, err := fmt.Sscanf(string(v), "round %d", &got)
			return err
		})
		if err != nil {
			return err
		}
		if round > 0 && (!found || got < round) {
			return fmt.Errorf("key %d is of round %d, want %d", i, got, round)
		}
	}
	return nil
}

// TestWhatAnEditDropsIsRemovedOnceTheEditIsDurable pins an order that Pebble keeps, and that all rests on: a table, a manifest, or a marker, goes only once what
// takes its place is named by what is synced. So it looks through flushes, compactions, and manifests that take each other's place.
func TestWhatAnEditDropsIsRemovedOnceTheEditIsDurable(t *testing.T) {
	t.Parallel()
	for name, lies := range map[string]bool{"on a disk that syncs": false, "on one that syncs no manifest it is found": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			var mu sync.Mutex
			flushed := 0
			fs := &removals{FS: mem, mem: mem, lies: lies, kinds: map[string]int{}}
			fs.whole = func(left *vfs.MemFS) error {
				mu.Lock()
				defer mu.Unlock()
				return wholeSince(left, flushed)
			}
			var db *DB
			for round := 1; round <= removalRounds; round++ {
				if db == nil {
					db = openRotating(t, fs)
				}
				for i := range removalKeys {
					set(t, db, removalKey(i), fmt.Sprintf("round %d %s", round, strings.Repeat("x", 4*i*i)))
				}
				if err := db.Flush(); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				flushed = round
				mu.Unlock()
				if round%5 == 0 {
					if err := db.CompactAll(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				if round%8 == 0 {
					if err := db.Close(); err != nil {
						t.Fatal(err)
					}
					db = nil
				}
			}
			if got := len(fs.wrong) > 0; got != lies {
				t.Errorf("%d of %d removals come too early: %v", len(fs.wrong), len(fs.gone), fs.wrong)
			}
			for _, kind := range []string{tableSuffix, manifestPrefix} {
				if fs.kinds[kind] < 5 {
					t.Errorf("the test sees too little: what is removed is %v", fs.kinds)
				}
			}
		})
	}
}
