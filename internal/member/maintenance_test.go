package member

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// onDisk describes a member on the real filesystem, where exports are written.
func onDisk(t testing.TB) Config {
	t.Helper()
	cfg := configOf(t, vfs.Default, alone)
	cfg.DataDir = t.TempDir()
	return cfg
}

// exportsIn are the exports that have a name in the data directory.
func exportsIn(t testing.TB, cfg Config) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(storage.Root(cfg.DataDir), exportPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestExportIsADatabaseOfTheState(t *testing.T) {
	t.Parallel()
	cfg := onDisk(t)
	m := start(t, cfg)
	defer stop(t, m)
	put(t, m, "a", "1")
	put(t, m, "a", "2")
	e, err := m.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, m, "a", "3") // not in it
	if names := exportsIn(t, cfg); len(names) != 0 {
		t.Errorf("the file can be seen: %v", names)
	}
	size := e.Left()
	all, err := io.ReadAll(e)
	if err = errors.Join(err, e.Close()); err != nil || int64(len(all)) != size || e.Left() != 0 || e.Version() != "3.7.0" {
		t.Fatalf("read %d bytes of %d, %d left, version %q, %v", len(all), size, e.Left(), e.Version(), err)
	}
	wholeCache(t, m)
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := etcdfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	want, _, _, err := m.HashKV(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	hash, _, rev, err := f.HashKV(t.Context(), 0)
	if err != nil || hash != want || rev != 3 {
		t.Errorf("hash %x at %d, want %x at 3, %v", hash, rev, want, err)
	}
	if meta, err := f.Meta(); err != nil || len(meta.ConfState.GetVoters()) != 1 || meta.ConfState.GetVoters()[0] != m.ID() || meta.Term == 0 {
		t.Errorf("meta %+v, %v", meta, err)
	}
}

func TestExportsAreBounded(t *testing.T) {
	t.Parallel()
	m := start(t, onDisk(t))
	defer stop(t, m)
	var open []*Export
	for range exportsMax {
		e, err := m.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Export(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("one more: got %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		e, err := m.Export(context.Background())
		if err == nil {
			err = e.Close()
		}
		waiting <- err
	}()
	for _, e := range open {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-waiting; err != nil {
		t.Errorf("the one that waited: %v", err)
	}
}

// TestAnExportThatNobodyReadsGivesWay: a client that asks for a database and does not read it must not keep others from theirs.
func TestAnExportThatNobodyReadsGivesWay(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.Default, func(cfg *Config) { cfg.DataDir = t.TempDir() })
	defer stop(t, x.Member)
	var open [exportsMax]*Export
	for i := range open {
		e, err := x.Export(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		open[i] = e
	}
	reading, lost := open[0], open[1]
	got := make(chan error)
	go func() {
		e, err := x.Export(t.Context())
		if err == nil {
			err = e.Close()
		}
		got <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-got:
			if err != nil {
				t.Error(err)
			}
			waiting = false
		default:
			// How soon the other one waits is up to the scheduler: the file may end before, and who asks for more reads still.
			if _, err := reading.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			runtime.Gosched()
			x.clock.Advance(exportStall / 1000)
		}
	}
	if _, err := lost.Read(make([]byte, 1)); !errors.Is(err, ErrExportLost) {
		t.Errorf("reading what was given up: %v", err)
	}
	if _, err := reading.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("the one that is read: %v", err)
	}
	for _, e := range open {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(x.maintenance.exports) != 0 || len(x.maintenance.sent) != 0 {
		t.Error("a place is still taken")
	}
}

func TestExportThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	t.Run("the client is gone", func(t *testing.T) {
		t.Parallel()
		cfg := onDisk(t)
		m := start(t, cfg)
		defer stop(t, m)
		put(t, m, "a", "1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 * exportsMax { // each gives its place back
			if _, err := m.Export(ctx); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
		}
		wholeCache(t, m)
		if names := exportsIn(t, cfg); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
	t.Run("the directory cannot be written", func(t *testing.T) {
		t.Parallel()
		// This member's directory is in memory, where no other file can be made.
		m := start(t, configOf(t, vfs.NewMem(), alone))
		defer stop(t, m)
		for range 2 * exportsMax {
			if _, err := m.Export(t.Context()); !errors.Is(err, os.ErrNotExist) {
				t.Fatalf("got %v", err)
			}
		}
		wholeCache(t, m)
		put(t, m, "a", "1")
	})
}

// wholeCache checks that nothing of the block cache is reserved.
func wholeCache(t *testing.T, m *Member) {
	t.Helper()
	if n := m.gen.Load().db.Metrics().CacheReserved; n != 0 {
		t.Errorf("%d bytes of the cache stay reserved", n)
	}
}

func TestAReservationOfTheCacheMayOutliveTheMember(t *testing.T) {
	t.Parallel()
	m := start(t, onDisk(t))
	early, late := m.ReserveCache(32<<20), m.ReserveCache(32<<20)
	if n := m.gen.Load().db.Metrics().CacheReserved; n != 64<<20 {
		t.Errorf("%d bytes of the cache are reserved", n)
	}
	early()
	early()
	if n := m.gen.Load().db.Metrics().CacheReserved; n != 32<<20 {
		t.Errorf("%d bytes of the cache are reserved after a release", n)
	}
	stop(t, m)
	late()
	m.ReserveCache(32 << 20)()
}

func TestStartRemovesUnfinishedExports(t *testing.T) {
	t.Parallel()
	disk := founded(t)
	leftover := disk.PathJoin(storage.Root("data"), exportPrefix+"123"+exportSuffix)
	writeFile(t, disk, leftover, "half a database")
	if err := disk.MkdirAll(leftover+exportCopy, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, disk, disk.PathJoin(leftover+exportCopy, "000001.sst"), "a table")
	m := start(t, configOf(t, disk, alone))
	defer stop(t, m)
	for _, name := range []string{leftover, leftover + exportCopy} {
		if _, err := disk.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", name, err)
		}
	}
	if got := get(t, m, "k"); got != "v" {
		t.Errorf("k is %q", got)
	}
}

func TestDefragmentGoesOnBesideRequestsAndIsShared(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			if err := m.Defragment(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 50 {
		put(t, m, "k", strconv.Itoa(i))
	}
	callers.Wait()
	if got := get(t, m, "k"); got != "49" {
		t.Errorf("k is %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Defragment(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled one: %v", err)
	}
	stop(t, m)
	if err := m.Defragment(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("after stop: %v", err)
	}
	if _, err := m.Export(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("an export after stop: %v", err)
	}
}

func TestHashIsThatOfTheContent(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	m := start(t, configOf(t, disk, alone))
	hash := func() uint32 {
		t.Helper()
		h, rev, err := m.Hash(t.Context())
		if err != nil || rev != m.Store().Revision() {
			t.Fatalf("hash at %d, the revision is %d, %v", rev, m.Store().Revision(), err)
		}
		return h
	}
	before := hash()
	for i := range 20 {
		put(t, m, "k", strconv.Itoa(i))
	}
	changed := hash()
	if changed == before {
		t.Error("puts make no difference")
	}
	if err := m.Defragment(t.Context()); err != nil {
		t.Fatal(err)
	}
	if hash() != changed {
		t.Error("a defragmentation makes a difference")
	}
	request := &etcdserverpb.CompactionRequest{Revision: m.Store().Revision()}
	r, err := m.Propose(t.Context(), apply.CommandCompaction, encoded(t, request))
	if err != nil {
		t.Fatal(err)
	}
	compacted := hash()
	if err := m.WaitCompacted(t.Context(), r.Revision); err != nil {
		t.Fatal(err)
	}
	if hash() != compacted {
		t.Error("how far a compaction has come makes a difference")
	}
	stop(t, m)
	m = start(t, configOf(t, disk, alone))
	defer stop(t, m)
	if hash() != compacted {
		t.Error("a restart makes a difference")
	}
}

// TestAHashMixesNoTwoInstants: a compaction changes the hash and not the revision, by which the two views are matched.
func TestAHashMixesNoTwoInstants(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	put(t, m, "a", "1")
	put(t, m, "a", "2")
	g := m.gen.Load()
	c, err := etcdfile.Read(g.db)
	if err != nil {
		t.Fatal(err)
	}
	view := func() *mvcc.View {
		v, err := m.View(c.Revision)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	v := view()
	if _, err := hashBoth(t.Context(), c, v); err != nil {
		t.Error(err)
	}
	if err := errors.Join(v.Close(), m.proposeCompaction(c.Revision)); err != nil {
		t.Fatal(err)
	}
	v = view()
	if _, err := hashBoth(t.Context(), c, v); !errors.Is(err, errApart) {
		t.Errorf("the hash of two instants: %v", err)
	}
	if err := errors.Join(v.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err := m.Hash(t.Context()); err != nil {
		t.Error(err)
	}
}
