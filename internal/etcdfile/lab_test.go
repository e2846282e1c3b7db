package etcdfile

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// state is a state of ours without a member around it.
type state struct {
	db      *storage.DB
	store   *mvcc.Store
	leases  *lease.Table
	members *cluster.Membership
	alarms  *cluster.Alarms
}

func newState(t testing.TB) *state {
	t.Helper()
	db, err := storage.OpenState("state", storage.Options{FS: vfs.NewMem()})
	noError(t, err)
	t.Cleanup(func() { noError(t, db.Close()) })
	s := &state{db: db}
	s.store, err = mvcc.Open(db)
	noError(t, err)
	s.leases, err = lease.Load(db)
	noError(t, err)
	s.members, err = cluster.Load(db)
	noError(t, err)
	s.alarms, err = cluster.LoadAlarms(db)
	noError(t, err)
	return s
}

// entry applies one entry.
func (s *state) entry(t testing.TB, fn func(w *mvcc.Writer) error) {
	t.Helper()
	w := s.store.NewWriter()
	index, _ := s.store.Applied()
	w.Begin()
	noError(t, fn(w))
	w.End()
	w.SetApplied(index+1, 2)
	noError(t, w.Commit())
}

func (s *state) put(t testing.TB, key, value string, leaseID int64) {
	t.Helper()
	s.entry(t, func(w *mvcc.Writer) error { return w.PutBlind([]byte(key), []byte(value), leaseID) })
}

func (s *state) delete(t testing.TB, key string) {
	t.Helper()
	s.entry(t, func(w *mvcc.Writer) error {
		_, err := w.DeleteRange([]byte(key), nil, nil)
		return err
	})
}

func (s *state) grant(t testing.TB, id, ttl, remaining int64) {
	t.Helper()
	var c *lease.Change
	s.entry(t, func(w *mvcc.Writer) error {
		c = s.leases.Begin(w.Batch())
		if err := c.Grant(id, ttl); err != nil || remaining == 0 {
			return err
		}
		return c.Checkpoint(id, remaining)
	})
	c.Publish()
}

func (s *state) alarm(t testing.TB, x cluster.Alarm) {
	t.Helper()
	var c *cluster.AlarmChange
	s.entry(t, func(w *mvcc.Writer) error {
		c = s.alarms.Begin(w.Batch())
		return c.Activate(x)
	})
	c.Publish()
}

func (s *state) membership(t testing.TB, fn func(*cluster.Change) error) {
	t.Helper()
	var c *cluster.Change
	s.entry(t, func(w *mvcc.Writer) error {
		c = s.members.Begin(w.Batch())
		return fn(c)
	})
	c.Publish()
}

// voters stores raft's configuration, as apply does.
func (s *state) voters(t testing.TB, ids ...uint64) {
	t.Helper()
	s.entry(t, func(w *mvcc.Writer) error {
		b, err := proto.Marshal(&raftpb.ConfState{Voters: ids})
		if err != nil {
			return err
		}
		return w.Batch().Set(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("confstate")), b, nil)
	})
}

// compact schedules a compaction and does a number of slices of two records.
func (s *state) compact(t testing.TB, rev int64, slices int) {
	t.Helper()
	s.entry(t, func(w *mvcc.Writer) error { return w.ScheduleCompact(rev) })
	for range slices {
		done, err := s.store.CompactStep(t.Context(), 2)
		noError(t, err)
		if done {
			return
		}
	}
}

// export writes the state's file and opens it. small sorts a few records at a time.
func (s *state) export(t testing.TB, small bool) *File {
	t.Helper()
	c, err := Read(s.db)
	noError(t, err)
	if small {
		c.runBytes = 200
	}
	path := filepath.Join(t.TempDir(), "db")
	_, err = c.Write(t.Context(), path)
	noError(t, err)
	noError(t, c.Close())
	return openFile(t, path)
}

func openFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	noError(t, err)
	t.Cleanup(func() { noError(t, f.Close()) })
	return f
}

// dump is every record of a file, a line each, in order.
func (f *File) dump(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	noError(t, f.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("bbolt's check: %v", err)
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			fmt.Fprintf(&out, "%s\n", name)
			return b.ForEach(func(k, v []byte) error {
				fmt.Fprintf(&out, "  %q = %q\n", k, v)
				return nil
			})
		})
	}))
	return out.String()
}

// lines compares two texts line by line.
func wantLines(t *testing.T, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for _, line := range g {
		if !slices.Contains(w, line) {
			t.Errorf("has, and should not: %s", line)
		}
	}
	for _, line := range w {
		if !slices.Contains(g, line) {
			t.Errorf("should have: %s", line)
		}
	}
	if !t.Failed() && got != want {
		t.Errorf("the order differs:\n%s", got)
	}
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
