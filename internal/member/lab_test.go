package member

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const (
	alone    = "solo=http://127.0.0.1:2380"
	notAlone = alone + ",other=http://127.0.0.1:2382" // the other one never runs: nothing is ever decided
)

// configOf describes the member "solo" of an initial cluster, on disk.
func configOf(t testing.TB, disk storage.FS, initial string) Config {
	t.Helper()
	ic, err := cluster.ParseInitialCluster(initial)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name: "solo", DataDir: "data", FS: disk, InitialCluster: ic, Token: "test",
		ClientURLs:   []string{"http://127.0.0.1:2379"},
		TickInterval: 10 * time.Millisecond, ElectionTicks: 10, HeartbeatTicks: 1, PreVote: true,
		RequestTimeout: time.Minute, MaxRequestBytes: 4096, SnapshotCatchUpEntries: 4,
		Clock:  clock.Real(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal:  func(err error) { t.Errorf("the member failed: %v", err) },
	}
}

func open(t testing.TB, cfg Config) *Member {
	t.Helper()
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// start opens a member and runs it until it is ready.
func start(t testing.TB, cfg Config) *Member {
	t.Helper()
	m := open(t, cfg)
	m.Start()
	select {
	case <-m.Ready():
	case <-t.Context().Done():
		t.Fatal("the member did not become ready")
	}
	return m
}

func stop(t testing.TB, m *Member) {
	t.Helper()
	if err := m.Stop(); err != nil {
		t.Fatal(err)
	}
}

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func putRequest(t testing.TB, key, value string) []byte {
	t.Helper()
	return encoded(t, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func put(t testing.TB, m *Member, key, value string) {
	t.Helper()
	if _, err := m.Propose(t.Context(), apply.CommandPut, putRequest(t, key, value)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// putStepped is put on a member that was not started.
func putStepped(t testing.TB, m *Member, key, value string) {
	t.Helper()
	p, err := m.Begin(apply.CommandPut, putRequest(t, key, value))
	if err != nil {
		t.Fatal(err)
	}
	step(m)
	if r, ok := p.Poll(); !ok || r.Err != nil {
		t.Fatalf("put %s: decided %v, error %v", key, ok, r.Err)
	}
}

// step takes turns in all loops of the node until none has anything to do.
func step(m *Member) {
	for busy := true; busy; {
		busy = m.node.Turn()
		busy = m.node.AppendTurn() || busy
		busy = m.node.ApplyTurn() || busy
	}
}

// get returns the value of key at a linearizable read, "" when there is none.
func get(t testing.TB, m *Member, key string) string {
	t.Helper()
	if err := m.ReadBarrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := m.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	var value string
	_, err = v.Range(mvcc.RangeOptions{Key: []byte(key)}, func(kv mvcc.KV) error {
		value = string(kv.Value())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// copyOf returns what is on disk now, synced or not: what a killed process leaves.
func copyOf(disk *vfs.MemFS) *vfs.MemFS {
	return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// founded returns the disk of a member that has k=v and was stopped.
func founded(t testing.TB) *vfs.MemFS {
	t.Helper()
	disk := vfs.NewCrashableMem()
	m := start(t, configOf(t, disk, alone))
	put(t, m, "k", "v")
	stop(t, m)
	return disk
}

// replace puts a directory of one disk in the place of one of another.
func replace(t testing.TB, from storage.FS, source string, to storage.FS, target string) {
	t.Helper()
	if err := to.RemoveAll(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(from, to, source, target); !ok || err != nil {
		t.Fatalf("copy %s: %v, %v", source, ok, err)
	}
}

// contents returns every file below a directory.
func contents(t testing.TB, disk storage.FS, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	names, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return files
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := disk.PathJoin(dir, name)
		info, err := disk.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			for k, v := range contents(t, disk, path) {
				files[k] = v
			}
			continue
		}
		files[path] = readFile(t, disk, path)
	}
	return files
}

func readFile(t testing.TB, disk storage.FS, path string) string {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t testing.TB, disk storage.FS, path, text string) {
	t.Helper()
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(text))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
