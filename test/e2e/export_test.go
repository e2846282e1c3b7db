package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/test/process"
)

var etcdFlag = flag.String("etcd", "", "an etcd 3.7 binary that is to serve a snapshot of ours")

// TestSnapshotOfKubernetesIsADatabaseOfEtcd: the snapshot of a store with Kubernetes' data holds every version that is
// there, and an etcd that serves it gives the same answers and hashes.
func TestSnapshotOfKubernetesIsADatabaseOfEtcd(t *testing.T) {
	t.Parallel()
	revisions, expected := kubernetesData(t)
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	written := load(t, c, revisions)
	ctx := within(t, wholeTest)
	granted, err := c.Grant(ctx, 1000)
	noError(t, err)
	answer, err := c.Put(ctx, "~leased", "x", clientv3.WithLease(granted.ID))
	noError(t, err)
	newest := answer.Header.Revision

	path := saveSnapshot(ctx, t, c)
	compareSnapshot(t, c, path, expected.Revision/2, expected.Revision, newest)
	checkVersions(t, path, written, newest)

	_, err = c.Compact(ctx, expected.CompactRevision, clientv3.WithCompactPhysical())
	noError(t, err)
	path = saveSnapshot(ctx, t, c)
	compareSnapshot(t, c, path, expected.CompactRevision+1, expected.Revision, newest)
	if *etcdFlag != "" {
		compareServers(ctx, t, c, path, expected.CompactRevision+1, expected.Revision, newest)
	} else {
		t.Log("an etcd that serves the snapshot is not tried without -etcd")
	}
	left, err := filepath.Glob(filepath.Join(m.dataDir, "*", "export-*"))
	noError(t, err)
	if len(left) != 0 {
		t.Errorf("left in the data directory: %v", left)
	}
	s.stop(t)
}

// TestReaderAgreesWithEtcdsOwnTool reads the recorded file itself, whose hash etcdutl has told.
func TestReaderAgreesWithEtcdsOwnTool(t *testing.T) {
	t.Parallel()
	kubernetesData(t) // or skip
	root, err := process.Root()
	noError(t, err)
	f, err := etcdfile.Open(filepath.Join(root, "..", "shared", "data", "kubernetes-1.36.snapshot.db"))
	noError(t, err)
	defer f.Close()
	hash, compact, rev, err := f.HashKV(t.Context(), 0)
	noError(t, err)
	if hash != 2708106731 || rev != 2650 || compact != 2122 {
		t.Errorf("got hash %d at %d, compacted to %d", hash, rev, compact)
	}
}

// saveSnapshot saves a snapshot without the checksum behind it, which it checks.
func saveSnapshot(ctx context.Context, t *testing.T, c *clientv3.Client) string {
	t.Helper()
	r, err := c.Snapshot(ctx)
	noError(t, err)
	all, err := io.ReadAll(r)
	noError(t, errors.Join(err, r.Close()))
	body, sum := all[:len(all)-sha256.Size], all[len(all)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) || len(body)%512 != 0 {
		t.Fatalf("a snapshot of %d bytes with the checksum %x, want %x", len(body), sum, want)
	}
	path := filepath.Join(t.TempDir(), "db")
	noError(t, os.WriteFile(path, body, 0o600))
	return path
}

// compareSnapshot compares the hashes of a file with what its server says.
func compareSnapshot(t *testing.T, c *clientv3.Client, path string, revisions ...int64) {
	t.Helper()
	f, err := etcdfile.Open(path)
	noError(t, err)
	defer f.Close()
	for _, rev := range revisions {
		want, err := c.HashKV(within(t, process.Patience), c.Endpoints()[0], rev)
		noError(t, err)
		hash, compact, _, err := f.HashKV(t.Context(), rev)
		noError(t, err)
		if hash != want.Hash || compact != want.CompactRevision {
			t.Errorf("at revision %d: the file hashes to %x, compacted to %d; the server says %x, %d",
				rev, hash, compact, want.Hash, want.CompactRevision)
		}
	}
}

// checkVersions compares the newest versions of a file that was never compacted with what was written.
func checkVersions(t *testing.T, path string, written *history, newest int64) {
	t.Helper()
	f, err := etcdfile.Open(path)
	noError(t, err)
	defer f.Close()
	live := make(map[string][]byte)
	noError(t, f.Versions(t.Context(), 0, func(at etcdfile.Revision, kv mvcc.KV) error {
		if delete(live, string(kv.Key())); !at.Tombstone {
			live[string(kv.Key())] = bytes.Clone(kv.Raw())
		}
		return nil
	}))
	delete(live, "~leased")
	for _, kv := range written.at(newest) {
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(kv)
		noError(t, err)
		if !bytes.Equal(live[string(kv.Key)], want) {
			t.Errorf("key %q: got %q, want %q", kv.Key, live[string(kv.Key)], want)
		}
		delete(live, string(kv.Key))
	}
	for key := range live {
		t.Errorf("the file has %q", key)
	}
}

// compareServers lets etcd serve a snapshot and compares everything that both answer.
func compareServers(ctx context.Context, t *testing.T, ours *clientv3.Client, path string, revisions ...int64) {
	t.Helper()
	m := newMember(t)
	m.binary = *etcdFlag
	restore(t, path, m.dataDir)
	s := m.start(t)
	defer s.Kill()
	theirs := m.connect(t)
	for _, rev := range revisions {
		a, err := ours.HashKV(ctx, ours.Endpoints()[0], rev)
		noError(t, err)
		b, err := theirs.HashKV(ctx, theirs.Endpoints()[0], rev)
		noError(t, err)
		if a.Hash != b.Hash || a.CompactRevision != b.CompactRevision {
			t.Errorf("at revision %d: our hash %x, compacted to %d; etcd's %x, %d", rev, a.Hash, a.CompactRevision, b.Hash, b.CompactRevision)
		}
		x, err := ours.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
		noError(t, err)
		y, err := theirs.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(rev))
		noError(t, err)
		same := slices.EqualFunc(x.Kvs, y.Kvs, func(a, b *mvccpb.KeyValue) bool { return proto.Equal(a, b) })
		if !same || len(x.Kvs) == 0 || x.Count != y.Count || x.Header.Revision != y.Header.Revision {
			t.Errorf("at revision %d: we have %d keys of %d at %d, etcd %d of %d at %d", rev,
				len(x.Kvs), x.Count, x.Header.Revision, len(y.Kvs), y.Count, y.Header.Revision)
		}
	}
	a, err := ours.Leases(ctx)
	noError(t, err)
	b, err := theirs.Leases(ctx)
	noError(t, err)
	if len(a.Leases) != 1 || !slices.Equal(a.Leases, b.Leases) {
		t.Errorf("leases: ours %v, etcd's %v", a.Leases, b.Leases)
	}
	left, err := theirs.TimeToLive(ctx, a.Leases[0].ID, clientv3.WithAttachedKeys())
	noError(t, err)
	if len(left.Keys) != 1 || string(left.Keys[0]) != "~leased" || left.GrantedTTL != 1000 {
		t.Errorf("the lease in etcd: %+v", left)
	}
	if _, err := theirs.Put(ctx, "new", "value"); err != nil {
		t.Errorf("a put to etcd: %v", err)
	}
	t.Logf("etcd %s served our snapshot: %d revisions compared", theirVersion(ctx, t, theirs), len(revisions))
}

func theirVersion(ctx context.Context, t *testing.T, c *clientv3.Client) string {
	t.Helper()
	st, err := c.Status(ctx, c.Endpoints()[0])
	noError(t, err)
	return fmt.Sprintf("%s, storage %s", st.Version, st.StorageVersion)
}

// restore makes a data directory of etcd's from a snapshot: like etcdutl it forgets the members and the place in the
// log, since the new cluster begins a log of its own.
func restore(t *testing.T, path, dataDir string) {
	t.Helper()
	dir := filepath.Join(dataDir, "member", "snap")
	noError(t, os.MkdirAll(dir, 0o700))
	b, err := os.ReadFile(path)
	noError(t, err)
	target := filepath.Join(dir, "db")
	noError(t, os.WriteFile(target, b, 0o600))
	db, err := bolt.Open(target, 0o600, nil)
	noError(t, err)
	noError(t, db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"members", "members_removed"} {
			if err := errors.Join(tx.DeleteBucket([]byte(name)), newBucket(tx, name)); err != nil {
				return err
			}
		}
		meta := tx.Bucket([]byte("meta"))
		return errors.Join(meta.Delete([]byte("confState")), meta.Delete([]byte("term")),
			meta.Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, 0)))
	}))
	noError(t, db.Close())
}

func newBucket(tx *bolt.Tx, name string) error {
	_, err := tx.CreateBucket([]byte(name))
	return err
}

// TestSnapshotsThatFailDisturbNothing: when the file cannot be made, the request fails and nothing else.
func TestSnapshotsThatFailDisturbNothing(t *testing.T) {
	t.Parallel()
	disk := newSmallDisk(t, 320<<20)
	m := newMember(t)
	m.dataDir, m.prefix = disk.dir+"/data", disk.enter
	s := m.start(t)
	c := m.connect(t)
	ctx := within(t, wholeTest)
	for i := range 60 {
		_, err := c.Put(ctx, fmt.Sprint("key", i), strings.Repeat("x", 1<<20))
		noError(t, err)
	}
	noError(t, disk.fillUp(40<<20))
	r, err := c.Snapshot(ctx)
	noError(t, err)
	n, err := io.Copy(io.Discard, r)
	if err == nil || n > 0 || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("a snapshot without space: %d bytes, %v", n, err)
	}
	_, err = c.Put(ctx, "after", "it")
	noError(t, err)
	noError(t, disk.makeRoom())
	saveSnapshot(ctx, t, c)
	s.stop(t)
}

// TestClientsThatGoAwayEndTheirSnapshot: those that nobody reads any more make room for others.
func TestClientsThatGoAwayEndTheirSnapshot(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	ctx := within(t, wholeTest)
	for i := range 20 {
		_, err := c.Put(ctx, fmt.Sprint("key", i), strings.Repeat("x", 1<<20))
		noError(t, err)
	}
	for range 6 {
		leaving, leave := context.WithCancel(ctx)
		stream, err := etcdserverpb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(leaving, &etcdserverpb.SnapshotRequest{})
		noError(t, err)
		_, err = stream.Recv()
		noError(t, err)
		leave()
	}
	saveSnapshot(ctx, t, c)
	s.stop(t)
}
