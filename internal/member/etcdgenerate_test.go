package member

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var generateFlag = flag.String("generate", "", "write testdata/etcd-VERSION-* anew with this program of etcd; VERSION is -generate-version")
var generateVersionFlag = flag.String("generate-version", "3.7", "see -generate")

// etcdSummary is what etcd says of a directory when it is started on a copy of it.
type etcdSummary struct {
	ClusterID, MemberID uint64
	Term                uint64
	Revision            int64
	CompactRevision     int64
	Hashes              map[int64]uint32
	Leases              map[int64]etcdLease
	Users               map[string][]string
	Roles               []string
	AuthEnabled         bool
	AuthRevision        uint64
	Alarms              []string
	Members             []string
	// Commit and Pending are of a member without a quorum: what it knew to be committed, and how many entries it had above.
	Commit, Pending uint64
}

type etcdLease struct {
	TTL  int64
	Keys []string
}

// TestGenerateEtcdDirectories makes the directories that the tests of taking over use.
func TestGenerateEtcdDirectories(t *testing.T) {
	if *generateFlag == "" {
		t.Skip("it needs -generate, a program of etcd")
	}
	for _, c := range []struct {
		name string
		end  syscall.Signal
		auth bool
	}{{"stopped", syscall.SIGTERM, false}, {"killed", syscall.SIGKILL, true}} {
		dir := t.TempDir()
		e := runEtcd(t, dir, "", "--snapshot-count", "40", "--snapshot-catchup-entries", "5")
		e.fill(t, c.auth)
		e.end(t, c.end)
		name := "etcd-" + *generateVersionFlag + "-" + c.name
		pack(t, dir, name)
		e = runEtcd(t, dir, e.peer)
		writeSummary(t, name, e.summary(t, c.auth))
		e.end(t, syscall.SIGTERM)
	}
	generateUncommitted(t)
}

// generateUncommitted makes the directory of a leader that was killed with entries that nobody else has.
func generateUncommitted(t *testing.T) {
	var all []*etcdProcess
	var initial []string
	for i := range 3 {
		e := &etcdProcess{name: fmt.Sprint("m", i+1), dir: t.TempDir(), peer: freePort(t), client: freePort(t)}
		all = append(all, e)
		initial = append(initial, e.name+"="+e.peer)
	}
	for _, e := range all {
		e.initial = strings.Join(initial, ",")
		e.launch(t)
	}
	for _, e := range all {
		e.connect(t)
	}
	i := slices.IndexFunc(all, func(e *etcdProcess) bool { s := e.status(t); return s.Leader == s.Header.MemberId })
	if i < 0 {
		t.Fatal("no leader")
	}
	leader := all[i]
	leader.fill(t, false)
	for _, e := range all {
		if e != leader {
			e.end(t, syscall.SIGKILL)
		}
	}
	const pending = 3
	for range pending {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := leader.c.Put(ctx, "pending", strings.Repeat("p", 1000))
		cancel()
		if err == nil {
			t.Fatal("it was committed without a quorum")
		}
	}
	s := leader.status(t)
	sum := etcdSummary{ClusterID: s.Header.ClusterId, MemberID: s.Header.MemberId, Term: s.RaftTerm, Revision: s.Header.Revision,
		Commit: s.RaftIndex, Pending: pending}
	leader.end(t, syscall.SIGKILL)
	name := "etcd-" + *generateVersionFlag + "-uncommitted"
	pack(t, leader.dir, name)
	writeSummary(t, name, sum)
}

// etcdProcess is a running etcd.
type etcdProcess struct {
	name, dir, peer, client, initial string
	extra                            []string
	cmd                              *exec.Cmd
	c                                *clientv3.Client
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func runEtcd(t testing.TB, dir, peer string, extra ...string) *etcdProcess {
	t.Helper()
	e := &etcdProcess{name: "m1", dir: dir, peer: peer, client: freePort(t), extra: extra}
	if peer == "" {
		e.peer = freePort(t)
	}
	e.initial = "m1=" + e.peer
	e.launch(t)
	e.connect(t)
	return e
}

func (e *etcdProcess) launch(t testing.TB) {
	t.Helper()
	if strings.HasPrefix(*generateVersionFlag, "3.5") {
		for i, x := range e.extra {
			e.extra[i] = strings.Replace(x, "--snapshot-catchup", "--experimental-snapshot-catchup", 1)
		}
	}
	e.cmd = exec.Command(*generateFlag, append([]string{"--name", e.name, "--data-dir", e.dir, "--listen-client-urls", e.client,
		"--advertise-client-urls", e.client, "--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer,
		"--initial-cluster", e.initial, "--bcrypt-cost", "4"}, e.extra...)...)
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (e *etcdProcess) connect(t testing.TB) {
	t.Helper()
	var err error
	if e.c, err = clientv3.New(clientv3.Config{Endpoints: []string{e.client}, DialTimeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		s, err := e.c.Status(ctx, e.client)
		if err == nil && s.Leader != 0 || err != nil && strings.Contains(err.Error(), "user name is empty") {
			return
		}
		if ctx.Err() != nil {
			t.Fatal("etcd does not start")
		}
	}
}

func (e *etcdProcess) end(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := errors.Join(e.c.Close(), e.cmd.Process.Signal(s)); err != nil {
		t.Fatal(err)
	}
	_ = e.cmd.Wait() // its status is the signal
}

func (e *etcdProcess) status(t *testing.T) *clientv3.StatusResponse {
	t.Helper()
	s, err := e.c.Status(t.Context(), e.client)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill writes something of every kind.
func (e *etcdProcess) fill(t *testing.T, withAuth bool) {
	t.Helper()
	ctx := t.Context()
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	l1, err := e.c.Grant(ctx, 100_000)
	keep(err)
	_, err = e.c.Grant(ctx, 200_000)
	keep(err)
	for i := range 120 {
		var o []clientv3.OpOption
		if i%5 == 0 {
			o = append(o, clientv3.WithLease(l1.ID))
		}
		_, err := e.c.Put(ctx, fmt.Sprintf("key/%d", i%50), strings.Repeat(fmt.Sprint(i), i%9), o...)
		keep(err)
	}
	_, err = e.c.Delete(ctx, "key/1", clientv3.WithPrefix())
	keep(err)
	r, err := e.c.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("b", "2"), clientv3.OpDelete("key/20")).Commit()
	keep(err)
	_, err = e.c.Compact(ctx, r.Header.Revision-20)
	keep(err)
	if !strings.Contains(e.initial, ",") {
		_, err = e.c.MemberAddAsLearner(ctx, []string{"http://127.0.0.1:9"})
		keep(err)
	}
	_, err = e.c.RoleAdd(ctx, "root")
	keep(err)
	_, err = e.c.RoleAdd(ctx, "reader")
	keep(err)
	_, err = e.c.RoleGrantPermission(ctx, "reader", "key/", "key0", clientv3.PermissionType(clientv3.PermRead))
	keep(err)
	_, err = e.c.UserAdd(ctx, "root", "secret")
	keep(err)
	_, err = e.c.UserGrantRole(ctx, "root", "root")
	keep(err)
	_, err = e.c.UserAdd(ctx, "alice", "wonder")
	keep(err)
	_, err = e.c.UserGrantRole(ctx, "alice", "reader")
	keep(err)
	if withAuth {
		_, err = e.c.AuthEnable(ctx)
		keep(err)
		as, err := clientv3.New(clientv3.Config{Endpoints: []string{e.client}, Username: "root", Password: "secret", DialTimeout: time.Minute})
		keep(err)
		keep(e.c.Close())
		e.c = as
	}
	for i := range 30 {
		_, err := e.c.Put(ctx, fmt.Sprint("late/", i), "v")
		keep(err)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// summary asks for everything. Hashes are of the last revisions.
func (e *etcdProcess) summary(t *testing.T, withAuth bool) etcdSummary {
	t.Helper()
	ctx := t.Context()
	if withAuth {
		as, err := clientv3.New(clientv3.Config{Endpoints: []string{e.client}, Username: "root", Password: "secret", DialTimeout: time.Minute})
		if err = errors.Join(err, e.c.Close()); err != nil {
			t.Fatal(err)
		}
		e.c = as
	}
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	s := etcdSummary{Hashes: map[int64]uint32{}, Leases: map[int64]etcdLease{}, Users: map[string][]string{}}
	get, err := e.c.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	s.ClusterID, s.MemberID, s.Revision, s.Term = get.Header.ClusterId, get.Header.MemberId, get.Header.Revision, get.Header.RaftTerm
	for _, back := range []int64{0, 1, 10, 40} {
		h, err := e.c.HashKV(ctx, e.client, s.Revision-back)
		if err != nil {
			t.Fatal(err)
		}
		s.Hashes[s.Revision-back], s.CompactRevision = h.Hash, h.CompactRevision
	}
	leases, err := e.c.Leases(ctx)
	keep(err)
	for _, l := range leases.Leases {
		x, err := e.c.TimeToLive(ctx, l.ID, clientv3.WithAttachedKeys())
		keep(err)
		var keys []string
		for _, k := range x.Keys {
			keys = append(keys, string(k))
		}
		slices.Sort(keys)
		s.Leases[int64(l.ID)] = etcdLease{x.GrantedTTL, keys}
	}
	users, err := e.c.UserList(ctx)
	keep(err)
	for _, u := range users.Users {
		x, err := e.c.UserGet(ctx, u)
		keep(err)
		s.Users[u] = x.Roles
	}
	roles, err := e.c.RoleList(ctx)
	keep(err)
	s.Roles = roles.Roles
	st, err := e.c.AuthStatus(ctx)
	keep(err)
	s.AuthEnabled, s.AuthRevision = st.Enabled, st.AuthRevision
	ms, err := e.c.MemberList(ctx)
	keep(err)
	for _, m := range ms.Members {
		s.Members = append(s.Members, fmt.Sprintf("%x %v %v", m.ID, m.PeerURLs, m.IsLearner))
	}
	slices.Sort(s.Members)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return s
}

func writeSummary(t *testing.T, name string, s etcdSummary) {
	t.Helper()
	b, err := json.MarshalIndent(s, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join("testdata", name+".json"), append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// paxSize is the true size of a file whose zeros at the end are left out.
const paxSize = "ASHLAR.size"

// pack writes a directory as an archive.
func pack(t *testing.T, dir, name string) {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".tmp") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		short := bytes.TrimRight(data, "\x00")
		h := &tar.Header{Name: rel, Mode: 0o600, Size: int64(len(short)), Format: tar.FormatPAX,
			PAXRecords: map[string]string{paxSize: fmt.Sprint(len(data))}}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(short)
		return err
	})
	if err = errors.Join(err, w.Close(), z.Close()); err == nil {
		err = os.WriteFile(filepath.Join("testdata", name+".tar.gz"), b.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s has %d bytes", name, b.Len())
}
