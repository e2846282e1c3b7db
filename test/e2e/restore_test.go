package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var etcdutlFlag = flag.String("etcdutl", "", "etcd's offline tool (test/etcdutl37 builds it), which is to restore a snapshot of ours")

// utility runs a command of the offline tool and returns what it printed.
func utility(t *testing.T, args ...string) string {
	t.Helper()
	if !program.ours {
		t.Skipf("%s SKIPPED: the offline tool is Ashlar's", t.Name())
	}
	return command(t, program.path, append([]string{"util"}, args...)...)
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, &stderr)
	}
	return string(out)
}

// restoreTo restores a snapshot to a member that has not run yet.
func restoreTo(t *testing.T, m *member, path string, args ...string) {
	t.Helper()
	utility(t, append([]string{"snapshot", "restore", path, "--data-dir", m.dataDir, "--initial-cluster", "default=" + m.peer,
		"--initial-advertise-peer-urls", m.peer}, args...)...)
}

// smallSnapshot is a snapshot that etcd 3.7.1 saved, with hashes that it computed.
func smallSnapshot(t *testing.T) string {
	t.Helper()
	root, err := process.Root()
	noError(t, err)
	return filepath.Join(root, "internal", "util", "testdata", "small.snapshot.db")
}

// expectHash compares the hash of a member at a revision.
func expectHash(t *testing.T, m *member, c *clientv3.Client, rev int64, want uint32) {
	t.Helper()
	got, err := c.HashKV(within(t, process.Patience), m.client, rev)
	noError(t, err)
	if got.Hash != want {
		t.Errorf("at revision %d: the hash is %d, and etcd computed %d", rev, got.Hash, want)
	}
}

func TestASnapshotOfKubernetesRestores(t *testing.T) {
	t.Parallel()
	kubernetesData(t) // or skip
	root, err := process.Root()
	noError(t, err)
	base := filepath.Join(root, "..", "shared", "data", "kubernetes-1.36.snapshot")
	described, err := os.ReadFile(base + ".json")
	noError(t, err)
	var want struct {
		Revision int64 `json:"revision"`
		Keys     int64 `json:"total_keys"`
		Hash     struct {
			Hash    uint32 `json:"hash"`
			Compact int64  `json:"compact_revision"`
		} `json:"hashkv"`
		At []struct {
			Revision int64  `json:"revision"`
			Keys     int64  `json:"keys"`
			Hash     uint32 `json:"hashkv"`
		} `json:"at_revisions"`
	}
	noError(t, json.Unmarshal(described, &want))
	m := newMember(t)
	restoreTo(t, m, base+".db")
	m.start(t)
	c := m.connect(t)
	expectHash(t, m, c, want.Revision, want.Hash.Hash)
	for _, at := range append(want.At, struct {
		Revision int64  `json:"revision"`
		Keys     int64  `json:"keys"`
		Hash     uint32 `json:"hashkv"`
	}{want.Revision, want.Keys, want.Hash.Hash}) {
		expectHash(t, m, c, at.Revision, at.Hash)
		got, err := c.Get(within(t, process.Patience), "", clientv3.WithPrefix(), clientv3.WithCountOnly(), clientv3.WithRev(at.Revision))
		noError(t, err)
		if got.Count != at.Keys || got.Header.Revision != want.Revision {
			t.Errorf("at revision %d: got %d keys of %d, at %d", at.Revision, got.Count, at.Keys, got.Header.Revision)
		}
	}
	if _, err := c.Get(within(t, process.Patience), "x", clientv3.WithRev(want.Hash.Compact-1)); err == nil {
		t.Error("a revision below the one compacted to was read")
	}
}

// TestARestoredMemberIsJoined: the restored log has no entries, so a member that joins must get the state.
func TestARestoredMemberIsJoined(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	restoreTo(t, m, smallSnapshot(t))
	m.start(t)
	c := m.connect(t)
	expectHash(t, m, c, 36, 4036300321)
	if _, err := os.Stat(filepath.Join(m.dataDir, "member")); !os.IsNotExist(err) {
		t.Errorf("the copy in etcd's form is still there: %v", err)
	}
	ctx := within(t, process.Patience)
	users, err := c.UserList(ctx)
	noError(t, err)
	leases, err := c.Leases(ctx)
	noError(t, err)
	if len(users.Users) != 1 || len(leases.Leases) != 1 {
		t.Errorf("got users %v, leases %v", users.Users, leases.Leases)
	}
	second := newMember(t)
	_, err = c.MemberAdd(ctx, []string{second.peer})
	noError(t, err)
	second.extra = []string{"--name", "second", "--initial-cluster-state", "existing",
		"--initial-cluster", fmt.Sprintf("default=%s,second=%s", m.peer, second.peer)}
	second.start(t)
	c2 := second.connect(t)
	_, err = c2.Put(within(t, process.Patience), "new", "v")
	noError(t, err)
	got, err := c2.Get(within(t, process.Patience), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	noError(t, err)
	if got.Count != 11 || got.Header.Revision != 37 {
		t.Errorf("the second member has %d keys at %d", got.Count, got.Header.Revision)
	}
	expectHash(t, second, c2, 36, 4036300321)
}

// TestALiveBackupHasEveryWriteBeforeIt takes points while a client writes.
func TestALiveBackupHasEveryWriteBeforeIt(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c := m.connect(t)
	backup := filepath.Join(t.TempDir(), "backup")
	var revision int64
	for n := range 3 {
		for i := range 30 {
			answer, err := c.Put(within(t, process.Patience), fmt.Sprintf("key-%d", i%7), fmt.Sprintf("%d-%d", n, i))
			noError(t, err)
			revision = answer.Header.Revision
		}
		if n == 1 {
			_, err := c.Delete(within(t, process.Patience), "key-3")
			noError(t, err)
			_, err = c.Compact(within(t, process.Patience), revision, clientv3.WithCompactPhysical())
			noError(t, err)
		}
		utility(t, "backup", "create", backup, "--endpoints", strings.TrimPrefix(m.client, "http://"))
	}
	want, err := c.HashKV(within(t, process.Patience), m.client, 0)
	noError(t, err)
	utility(t, "verify", backup)
	again := newMember(t)
	utility(t, "restore", backup, "--data-dir", again.dataDir, "--keep-revision", "--initial-cluster", "default="+again.peer,
		"--initial-advertise-peer-urls", again.peer)
	again.start(t)
	c2 := again.connect(t)
	expectHash(t, again, c2, want.HashRevision, want.Hash)
	got, err := c2.Get(within(t, process.Patience), "key-6", clientv3.WithRev(revision-5))
	noError(t, err)
	before, err := c.Get(within(t, process.Patience), "key-6", clientv3.WithRev(revision-5))
	noError(t, err)
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != string(before.Kvs[0].Value) {
		t.Errorf("at revision %d: got %v, want %v", revision-5, got.Kvs, before.Kvs)
	}
}

// TestEtcdsToolRestoresOurSnapshot: what a member of ours saves, etcd's own tool restores and etcd serves.
func TestEtcdsToolRestoresOurSnapshot(t *testing.T) {
	t.Parallel()
	if *etcdFlag == "" || *etcdutlFlag == "" {
		t.Skipf("%s SKIPPED: it needs -etcd and -etcdutl (test/etcd37 and test/etcdutl37 build them)", t.Name())
	}
	m := newMember(t)
	restoreTo(t, m, smallSnapshot(t))
	m.start(t)
	c := m.connect(t)
	ctx := within(t, wholeTest)
	_, err := c.Put(ctx, "more", "x")
	noError(t, err)
	path := filepath.Join(t.TempDir(), "saved.db")
	command(t, program.path, "ctl", "--endpoints", strings.TrimPrefix(m.client, "http://"), "snapshot", "save", path)
	want, err := c.HashKV(ctx, m.client, 0)
	noError(t, err)
	theirs := command(t, *etcdutlFlag, "hashkv", copyOf(t, path))
	if want := fmt.Sprintf("%d, %d, %d\n", want.Hash, want.HashRevision, want.CompactRevision); theirs != want {
		t.Errorf("etcd's tool hashes %q, we %q", theirs, want)
	}
	other := newMember(t)
	other.binary = *etcdFlag
	command(t, *etcdutlFlag, "snapshot", "restore", path, "--data-dir", other.dataDir, "--initial-cluster", "default="+other.peer,
		"--initial-advertise-peer-urls", other.peer)
	other.start(t)
	c2 := other.connect(t)
	for _, rev := range []int64{13, 20, 36, 37} {
		h, err := c.HashKV(ctx, m.client, rev)
		noError(t, err)
		expectHash(t, other, c2, rev, h.Hash)
	}
	ours, err := c.Leases(ctx)
	noError(t, err)
	leases, err := c2.Leases(ctx)
	noError(t, err)
	users, err := c2.UserList(ctx)
	noError(t, err)
	if len(leases.Leases) != 1 || leases.Leases[0].ID != ours.Leases[0].ID || len(users.Users) != 1 || users.Users[0] != "u" {
		t.Errorf("etcd has leases %v and users %v", leases.Leases, users.Users)
	}
}

// copyOf copies a file for a tool that writes to what it reads.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	noError(t, err)
	to := filepath.Join(t.TempDir(), "copy.db")
	noError(t, os.WriteFile(to, b, 0o600))
	return to
}
