package storage

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// openTestState opens a state in memory that fails the test when it fails.
func openTestState(t testing.TB, fs FS, o Options) *DB {
	t.Helper()
	o.FS = fs
	if o.Fatal == nil {
		o.Fatal = func(err error) { t.Errorf("fatal: %v", err) }
	}
	db, err := OpenState("data/state", o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func set(t testing.TB, db *DB, key []byte, val string) {
	t.Helper()
	b := db.NewBatch()
	defer b.Close()
	if err := b.Set(key, []byte(val), nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Commit(b); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, db *DB, key []byte) string {
	t.Helper()
	var val string
	found, err := db.Get(key, func(v []byte) error { val = string(v); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return "none"
	}
	return val
}

func TestStateIsDurableOnlyWhenFlushed(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	told := make(chan struct{}, 10)
	db := openTestState(t, fs, Options{OnFlush: func() { told <- struct{}{} }})
	key := AppendPlainKey(nil, SpaceMeta, []byte("applied"))
	durable := func(db *DB) string {
		v, found, err := db.GetDurable(key)
		if err != nil {
			t.Fatal(err)
		}
		if !found {
			return "none"
		}
		return string(v)
	}
	set(t, db, key, "1")
	if got := durable(db); got != "none" {
		t.Fatalf("durable before a flush: %s", got)
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	<-told
	if got := durable(db); got != "1" {
		t.Fatalf("durable after a flush: %s", got)
	}
	set(t, db, key, "2")
	if got, want := get(t, db, key)+durable(db), "21"; got != want {
		t.Fatalf("visible and durable are %s, not %s", got, want)
	}
	crashed := openTestState(t, fs.CrashClone(vfs.CrashCloneCfg{}), Options{})
	if got := get(t, crashed, key); got != "1" {
		t.Fatalf("after a crash: %s", got)
	}
	if err := crashed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openTestState(t, fs, Options{})
	if got := durable(db); got != "2" {
		t.Fatalf("after a close: %s", got)
	}
	if m := db.Metrics(); m.LiveBytes == 0 || m.DiskBytes < m.LiveBytes || m.Tables == 0 {
		t.Fatalf("metrics %+v", m)
	}
	if err := db.Checkpoint("data/copy"); err != nil {
		t.Fatal(err)
	}
	if err := db.CompactAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkpoint, err := OpenState("data/copy", Options{FS: fs, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := durable(checkpoint); got != "2" {
		t.Fatalf("in a checkpoint: %s", got)
	}
	if err := checkpoint.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestACopyIsTheStateAsItWas(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	db := openTestState(t, fs, Options{})
	key := AppendDataKey(nil, []byte("k"), 1, 0)
	set(t, db, key, "before")
	c, err := db.OpenCopy("data/copy", Options{FS: fs, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	set(t, db, key, "after")
	if got := get(t, c, key); got != "before" {
		t.Errorf("the copy says %s", got)
	}
	if _, err := db.OpenCopy("data/copy", Options{FS: fs}); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one in its place: %v", err)
	}
	for _, d := range []*DB{db, c} {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestVersionsOfAKeyAreFoundByPrefixFromTheNewestOn(t *testing.T) {
	t.Parallel()
	db := openTestState(t, vfs.NewMem(), Options{})
	users := []string{"", "\x00", "\x00\x00", "a", "a\x00", "a\x00\x01", "a\x01", "ab", "b\xff", "b\xff\xff"}
	var want []string
	for _, u := range users {
		for _, rev := range []struct {
			main int64
			sub  uint32
		}{{9, 1}, {9, 0}, {2, 1 << 31}, {2, 0}} {
			name := fmt.Sprintf("%q@%d.%d", u, rev.main, rev.sub)
			want = append(want, name)
			set(t, db, AppendDataKey(nil, []byte(u), rev.main, rev.sub), name)
		}
	}
	set(t, db, AppendRevKey(nil, SpaceHistory, 2, 0), "another space")
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	lower, upper := SpaceBounds(SpaceData)
	it, err := db.NewIter(&IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for ok := it.First(); ok; ok = it.Next() {
		user, main, sub, ok := DecodeDataKey(it.Key())
		if name := fmt.Sprintf("%q@%d.%d", user, main, sub); !ok || name != string(it.Value()) {
			t.Fatalf("key %x decodes as %s, %v; holds %s", it.Key(), name, ok, it.Value())
		}
		got = append(got, string(it.Value()))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("order is\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, u := range users {
		if !it.SeekPrefixGE(AppendDataPrefix(nil, []byte(u))) || string(it.Value()) != fmt.Sprintf("%q@9.1", u) {
			t.Fatalf("%q: the newest version is not found by its prefix", u)
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestADirectoryIsOpenedOnce(t *testing.T) {
	t.Parallel()
	for _, fs := range map[string]FS{"in memory": vfs.NewMem(), "on disk": vfs.Default} {
		dir := t.TempDir()
		lock, err := LockDir(fs, dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = LockDir(fs, dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("second lock: %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		db, err := OpenState(dir+"/state", Options{FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = OpenState(dir+"/state", Options{FS: fs}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("second open: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		log, err := LockLog(fs, dir+"/log", false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = LockLog(fs, dir+"/log", false); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("second lock of the log: %v", err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
