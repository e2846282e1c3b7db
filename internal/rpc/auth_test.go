package rpc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// descriptions collects what is registered.
type descriptions []*grpc.ServiceDesc

func (d *descriptions) RegisterService(desc *grpc.ServiceDesc, _ any) { *d = append(*d, desc) }

func TestEveryMethodHasARule(t *testing.T) {
	t.Parallel()
	var all descriptions
	Services{
		KV: NewKV(nil, KVOptions{}), Maintenance: NewMaintenance(nil, nil), Cluster: NewCluster(nil), Lock: &Lock{}, Election: &Election{},
	}.Register(&all)
	known := make(map[string]bool)
	for _, desc := range all {
		var names []string
		for _, m := range desc.Methods {
			names = append(names, m.MethodName)
		}
		for _, s := range desc.Streams {
			names = append(names, s.StreamName)
		}
		for _, name := range names {
			method := "/" + desc.ServiceName + "/" + name
			known[method] = true
			if _, ok := rules[method]; !ok {
				t.Errorf("%s has no rule: add it to rules, or everyone but root is refused", method)
			}
		}
	}
	for method := range rules {
		if !known[method] {
			t.Errorf("there is a rule for %s, which is not there", method)
		}
	}
}

// TestNoMethodAnswersNobody calls every method of etcd without a token, and with one that is none.
func TestNoMethodAnswersNobody(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	open := []string{"AuthStatus", "Authenticate"}
	tokenless := []string{"Authenticate"} // that look at no token
	// What a request must hold for etcd's checks, which come first.
	fields := map[string]string{
		"Range": "\x0a\x01a", "RangeStream": "\x0a\x01a", "Put": "\x0a\x01a", "DeleteRange": "\x0a\x01a",
		"Txn": "\x12\x07\x12\x05\x0a\x01a\x12\x00", "UserAdd": "\x0a\x01n", "UserGet": "\x0a\x01n", "MemberAdd": "\x0a\x13http://127.0.0.1:99",
	}
	for _, desc := range []grpc.ServiceDesc{
		etcdserverpb.KV_ServiceDesc, etcdserverpb.Lease_ServiceDesc, etcdserverpb.Cluster_ServiceDesc,
		etcdserverpb.Maintenance_ServiceDesc, etcdserverpb.Auth_ServiceDesc,
	} {
		for _, m := range desc.Methods {
			for token, want := range map[string]error{"": rpctypes.ErrGRPCUserEmpty, "nonsense.1": rpctypes.ErrGRPCInvalidAuthToken} {
				var out []byte
				err := g.conn.Invoke(with(token), "/"+desc.ServiceName+"/"+m.MethodName, []byte(fields[m.MethodName]), &out, grpc.ForceCodec(rawCodec{}))
				if slices.Contains(open, m.MethodName) && (token == "" || slices.Contains(tokenless, m.MethodName)) {
					if code := status.Code(err); code != codes.OK && code != codes.InvalidArgument || err != nil && err.Error() == want.Error() {
						t.Errorf("%s: %v", m.MethodName, err)
					}
					continue
				}
				if status.Convert(err).Message() != status.Convert(want).Message() {
					t.Errorf("%s with the token %q: %v, want %v", m.MethodName, token, err, want)
				}
			}
		}
		for i := range desc.Streams {
			s, err := g.conn.NewStream(context.Background(), &desc.Streams[i], "/"+desc.ServiceName+"/"+desc.Streams[i].StreamName, grpc.ForceCodec(rawCodec{}))
			g.check(err)
			g.check(s.SendMsg([]byte(fields[desc.Streams[i].StreamName])))
			var out []byte
			wantStatus(t, s.RecvMsg(&out), rpctypes.ErrGRPCUserEmpty)
		}
	}
}

// TestNothingGetsAroundPermissions has etcd's ways around them that were found in 2026, and reads that no entry checks.
func TestNothingGetsAroundPermissions(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	denied := rpctypes.ErrGRPCPermissionDenied
	txn := func(ops ...*etcdserverpb.RequestOp) error {
		_, err := g.kv.Txn(with(g.u), &etcdserverpb.TxnRequest{Success: ops})
		return err
	}
	read := func(key, end string) *etcdserverpb.RequestOp {
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: &etcdserverpb.RangeRequest{
			Key: []byte(key), RangeEnd: []byte(end)}}}
	}
	nested := func(ops ...*etcdserverpb.RequestOp) *etcdserverpb.RequestOp {
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: &etcdserverpb.TxnRequest{Failure: ops}}}
	}
	put := func(p *etcdserverpb.PutRequest) *etcdserverpb.RequestOp {
		return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: p}}
	}
	_, before := g.counts()
	for says, err := range map[string]error{
		"a read, nested":                txn(nested(nested(read("sec", "")))),
		"a read of what may be written": txn(read("w/1", "")),
		"a read from a key on":          txn(read("r/", "\x00")),
		"a write, nested":               txn(nested(put(&etcdserverpb.PutRequest{Key: []byte("r/1")}))),
		"prev_kv, nested":               txn(nested(put(&etcdserverpb.PutRequest{Key: []byte("w/1"), PrevKv: true}))),
		"a lease of other keys, nested": txn(nested(put(&etcdserverpb.PutRequest{Key: []byte("w/1"), Lease: 9}))),
		"a compare of an unreadable key": func() error {
			_, err := g.kv.Txn(with(g.u), &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{{Key: []byte("sec")}}})
			return err
		}(),
		"the keys of a lease": func() error {
			_, err := g.lease.LeaseTimeToLive(with(g.u), &etcdserverpb.LeaseTimeToLiveRequest{ID: 9, Keys: true})
			return err
		}(),
		"all leases": func() error {
			_, err := g.lease.LeaseLeases(with(g.u), &etcdserverpb.LeaseLeasesRequest{})
			return err
		}(),
		"to end a lease": func() error {
			_, err := g.lease.LeaseRevoke(with(g.u), &etcdserverpb.LeaseRevokeRequest{ID: 9})
			return err
		}(),
		"to keep a lease alive": func() error {
			k, err := g.lease.LeaseKeepAlive(with(g.u))
			g.check(err)
			g.check(k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: 9}))
			_, err = k.Recv()
			return err
		}(),
		"a compaction": func() error {
			_, err := g.kv.Compact(with(g.u), &etcdserverpb.CompactionRequest{Revision: 2})
			return err
		}(),
		"an alarm": func() error {
			_, err := g.maintenance.Alarm(with(g.u), &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: 1})
			return err
		}(),
		"a member": func() error {
			_, err := g.cluster.MemberAdd(with(g.u), &etcdserverpb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:99"}})
			return err
		}(),
		"another user": func() error {
			_, err := g.auth.UserGet(with(g.u), &etcdserverpb.AuthUserGetRequest{Name: "root"})
			return err
		}(),
		"a snapshot": func() error {
			s, err := g.maintenance.Snapshot(with(g.u), &etcdserverpb.SnapshotRequest{})
			g.check(err)
			_, err = s.Recv()
			return err
		}(),
	} {
		t.Run(says, func(t *testing.T) { wantStatus(t, err, denied) })
	}
	if _, after := g.counts(); after != before {
		t.Errorf("%d entries for requests that are not permitted", after-before)
	}
	_, err := g.lease.LeaseTimeToLive(with(g.u), &etcdserverpb.LeaseTimeToLiveRequest{ID: 9})
	wantStatus(t, err, nil)
	_, err = g.maintenance.Alarm(with(g.u), &etcdserverpb.AlarmRequest{})
	wantStatus(t, err, nil)
	_, err = g.cluster.MemberList(with(g.u), &etcdserverpb.MemberListRequest{})
	wantStatus(t, err, nil)
}

// TestAWatchOfAllKeysNeedsAllOfThem is one of 2026: etcd took the end of a watch from a key on for that of one key.
func TestAWatchOfAllKeysNeedsAllOfThem(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	g.grant(g.root, "role", authpb.READ, "one", "")
	w, err := g.watch.Watch(with(g.u))
	g.check(err)
	for _, c := range []struct {
		key, end string
		denied   bool
	}{
		{"one", "", false}, {"one", "\x00", true}, {"one", "onf", true}, {"r/", "r0", false}, {"", "\x00", true}, {"", "", true}, {"w/1", "", true},
	} {
		g.check(w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(c.key), RangeEnd: []byte(c.end)}}}))
		r, err := w.Recv()
		g.check(err)
		if r.Canceled != c.denied || c.denied && (r.WatchId != -1 || !strings.Contains(r.CancelReason, "permission denied")) {
			t.Errorf("%q to %q: %v", c.key, c.end, r)
		}
	}
}

// TestWhatIsForbiddenIsNotReadAfterwards forbids a key, writes a secret to it and permits it no more; readers go on all the
// time.
func TestWhatIsForbiddenIsNotReadAfterwards(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	put := func(value string) {
		_, err := g.kv.Put(with(g.root), &etcdserverpb.PutRequest{Key: []byte("k"), Value: []byte(value)})
		g.check(err)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				r, err := g.kv.Range(with(g.u), &etcdserverpb.RangeRequest{Key: []byte("k"), Serializable: i%2 == 0})
				if err == nil && len(r.Kvs) > 0 && bytes.Equal(r.Kvs[0].Value, []byte("secret")) {
					t.Error("a secret was read")
					return
				}
				if code := status.Code(err); code != codes.OK && code != codes.PermissionDenied {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		put("public")
		g.grant(g.root, "role", authpb.READ, "k", "")
		g.revoke(g.root, "role", "k", "")
		put("secret")
	}
	close(done)
	readers.Wait()
}

// behind is a member that has something to apply yet, which it does when somebody waits for what is committed.
type behind struct {
	*solo
	once  sync.Once
	apply func()
}

func (b *behind) ReadBarrier(ctx context.Context) error {
	b.once.Do(b.apply)
	return b.solo.ReadBarrier(ctx)
}

// TestAMemberThatIsBehindTellsNobodyOfUsersAndRoles asks for them as one who was root when the member last heard of it.
func TestAMemberThatIsBehindTellsNobodyOfUsersAndRoles(t *testing.T) {
	t.Parallel()
	ask := map[string]func(*guarded, context.Context) error{
		"UserList": func(g *guarded, ctx context.Context) error {
			_, err := g.auth.UserList(ctx, &etcdserverpb.AuthUserListRequest{})
			return err
		},
		"RoleList": func(g *guarded, ctx context.Context) error {
			_, err := g.auth.RoleList(ctx, &etcdserverpb.AuthRoleListRequest{})
			return err
		},
		"UserGet": func(g *guarded, ctx context.Context) error {
			_, err := g.auth.UserGet(ctx, &etcdserverpb.AuthUserGetRequest{Name: "root"})
			return err
		},
	}
	for method, call := range ask {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, "simple")
			_, err := g.auth.UserGrantRole(with(g.root), &etcdserverpb.AuthUserGrantRoleRequest{User: "u", Role: "root"})
			g.check(err)
			wantStatus(t, call(g, with(g.u)), nil)
			b := &behind{solo: g.solo, apply: func() {
				_, err := g.auth.UserRevokeRole(with(g.root), &etcdserverpb.AuthUserRevokeRoleRequest{Name: "u", Role: "root"})
				if err != nil {
					t.Error(err)
				}
			}}
			asked := *g
			asked.auth = etcdserverpb.NewAuthClient(serveServices(t, g.solo, Options{Gate: g.gate, Clock: g.clock}, func(s *Services) {
				g.services(s)
				s.Auth = NewAuth(b, g.gate)
			}))
			wantStatus(t, call(&asked, with(g.u)), rpctypes.ErrGRPCPermissionDenied)
		})
	}
}

// TestChangesOfPermissionsDisturbNobody writes while users and roles change: each entry on its way is of an old auth revision then.
func TestChangesOfPermissionsDisturbNobody(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	done := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := g.kv.Put(with(g.u), &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, "w/%d", i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 50 {
		g.grant(g.root, "role", authpb.READ, "k", "")
		g.revoke(g.root, "role", "k", "")
	}
	close(done)
	writers.Wait()
}

func TestAStockClientLogsInAgainWhenItsTokenHasEnded(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	c := g.stock("u", "upw")
	put := func() {
		t.Helper()
		_, err := c.Put(t.Context(), "w/1", "")
		g.check(err)
	}
	put()
	g.clock.by.Add(int64(6 * time.Minute))
	_, err := g.kv.Range(with(g.u), &etcdserverpb.RangeRequest{Key: []byte("r/1")})
	wantStatus(t, err, rpctypes.ErrGRPCInvalidAuthToken)
	put()
	// A change of the password to the same one ends tokens, too.
	root := g.login("root", "rootpw")
	_, err = g.auth.UserChangePassword(with(root), &etcdserverpb.AuthUserChangePasswordRequest{Name: "u", Password: "upw"})
	g.check(err)
	put()
	_, err = c.Put(t.Context(), "r/1", "")
	if err == nil || err.Error() != rpctypes.ErrPermissionDenied.Error() {
		t.Errorf("got %v", err)
	}
	_, err = g.auth.UserChangePassword(with(root), &etcdserverpb.AuthUserChangePasswordRequest{Name: "u", Password: "new"})
	g.check(err)
	if _, err = c.Put(t.Context(), "w/1", ""); err == nil {
		t.Error("a client with an old password writes")
	}
	if _, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), Username: "u", Password: "upw", DialTimeout: time.Minute, Logger: c.GetLogger()}); err == nil {
		t.Error("a client with an old password logs in")
	}
}

func TestStockClientsWithSignedTokens(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuarded(t, "jwt,sign-method=HS256,ttl=10m,priv-key="+secret)
	c := g.stock("u", "upw")
	for range 3 {
		if _, err := c.Put(t.Context(), "w/1", ""); err != nil {
			t.Fatal(err)
		}
		// The token names an auth revision, and this makes it old.
		g.grant(g.root, "role", authpb.READ, "k", "")
	}
	_, err := g.kv.Put(with(g.u), &etcdserverpb.PutRequest{Key: []byte("w/1")})
	wantStatus(t, err, rpctypes.ErrGRPCAuthOldRevision)
	g.clock.by.Add(int64(11 * time.Minute))
	_, err = g.kv.Put(with(g.u), &etcdserverpb.PutRequest{Key: []byte("w/1")})
	wantStatus(t, err, rpctypes.ErrGRPCInvalidAuthToken)
	_, err = c.Put(t.Context(), "w/1", "")
	g.check(err)
}

// TestLeasesEndWhileAuthenticationIsOn: nobody asks for the end of a lease that is due, and yet its keys go.
func TestLeasesEndWhileAuthenticationIsOn(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	w, err := g.watch.Watch(with(g.root))
	g.check(err)
	g.check(w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("sec")}}}))
	_, err = w.Recv()
	g.check(err)
	g.clock.by.Add(int64(200_000 * time.Second))
	r, err := w.Recv()
	if err != nil || len(r.Events) != 1 || r.Events[0].Type != mvccpb.Event_DELETE {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestATokenToComeIsAnError(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	ctx, cancel := context.WithTimeout(with("ABCDEFGHIJKLMNOP.99999999"), time.Minute) // it is not waited for
	defer cancel()
	_, err := g.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("r/1")})
	wantStatus(t, err, rpctypes.ErrGRPCInvalidAuthToken)
}

func TestACertificateNamesAUserWhenThereIsNoToken(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	g.gate.CertificateUser = func(context.Context) string { return "u" }
	for token, want := range map[string]error{"": nil, g.root: nil, "nonsense": rpctypes.ErrGRPCInvalidAuthToken} {
		_, err := g.kv.Put(with(token), &etcdserverpb.PutRequest{Key: []byte("w/1")})
		wantStatus(t, err, want)
	}
	_, err := g.kv.Put(with(""), &etcdserverpb.PutRequest{Key: []byte("r/1")})
	wantStatus(t, err, rpctypes.ErrGRPCPermissionDenied)
	_, err = g.kv.Put(with(g.root), &etcdserverpb.PutRequest{Key: []byte("r/1")})
	wantStatus(t, err, nil)
}

// TestNamesThatASnapshotCannotHoldAreRefused and the longest that one can hold is not.
func TestNamesThatASnapshotCannotHoldAreRefused(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	longest := strings.Repeat("n", bolt.MaxKeySize)
	for name, want := range map[string]codes.Code{longest: codes.OK, longest + "n": codes.InvalidArgument} {
		_, err := g.auth.UserAdd(with(g.root), &etcdserverpb.AuthUserAddRequest{Name: name, Options: &authpb.UserAddOptions{NoPassword: true}})
		if status.Code(err) != want {
			t.Errorf("a user whose name has %d bytes: %v", len(name), err)
		}
		_, err = g.auth.RoleAdd(with(g.root), &etcdserverpb.AuthRoleAddRequest{Name: name})
		if status.Code(err) != want {
			t.Errorf("a role whose name has %d bytes: %v", len(name), err)
		}
	}
}

func TestNoPasswordGoesIntoTheLog(t *testing.T) {
	t.Parallel()
	g := newGuarded(t, "simple")
	for _, o := range []*authpb.UserAddOptions{nil, {NoPassword: true}} {
		_, err := g.auth.UserAdd(with(g.root), &etcdserverpb.AuthUserAddRequest{Name: fmt.Sprint("x", o != nil), Password: "plain text", Options: o})
		g.check(err)
	}
	_, err := g.auth.UserChangePassword(with(g.root), &etcdserverpb.AuthUserChangePasswordRequest{Name: "xfalse", Password: "plain text"})
	g.check(err)
	g.login("xfalse", "plain text")
	entries, err := g.Log().Entries(g.Log().FirstIndex(), g.Log().LastIndex()+1, 1<<30)
	g.check(err)
	hashes := 0
	for _, e := range entries {
		if bytes.Contains(e.GetData(), []byte("plain text")) || bytes.Contains(e.GetData(), []byte("upw")) {
			t.Errorf("a password: %q", e.GetData())
		}
		if bytes.Contains(e.GetData(), []byte("JDJhJ")) { // "$2a$" in base64
			hashes++
		}
	}
	if hashes != 4 {
		t.Errorf("%d hashes, want one of root, of u, and two of xfalse", hashes)
	}
}
