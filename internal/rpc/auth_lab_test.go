package rpc

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// ahead is a clock that can be set forward.
type ahead struct {
	clock.Clock
	by atomic.Int64
}

func (a *ahead) Now() time.Time { return a.Clock.Now().Add(time.Duration(a.by.Load())) }

// guarded is a member with authentication on, and clients of it: the user u may read r/, write w/, and both in b/; the key sec
// hangs on the lease 9, and w/1 on the lease 7.
type guarded struct {
	*solo
	t     testing.TB
	clock *ahead
	gate  *Gate
	conn  *grpc.ClientConn

	kv          etcdserverpb.KVClient
	lease       etcdserverpb.LeaseClient
	auth        etcdserverpb.AuthClient
	watch       etcdserverpb.WatchClient
	maintenance etcdserverpb.MaintenanceClient
	cluster     etcdserverpb.ClusterClient

	root, u string // tokens
}

// newGuarded makes one whose tokens are of a kind, as in member.Config.
func newGuarded(t testing.TB, tokens string) *guarded { return newAudited(t, tokens, nil) }

// newAudited is newGuarded with requests written down.
func newAudited(t testing.TB, tokens string, a *Auditing) *guarded {
	t.Helper()
	g := &guarded{t: t, clock: &ahead{Clock: clock.Real()}}
	g.solo = newSoloWith(t, func(c *member.Config) { c.Clock, c.AuthToken, c.BcryptCost = g.clock, tokens, bcrypt.MinCost })
	g.gate = NewGate(g.solo)
	g.conn = serveServices(t, g.solo, Options{Gate: g.gate, Clock: g.clock, Audit: a}, g.services)
	g.kv, g.lease = etcdserverpb.NewKVClient(g.conn), etcdserverpb.NewLeaseClient(g.conn)
	g.auth, g.watch = etcdserverpb.NewAuthClient(g.conn), etcdserverpb.NewWatchClient(g.conn)
	g.maintenance, g.cluster = etcdserverpb.NewMaintenanceClient(g.conn), etcdserverpb.NewClusterClient(g.conn)
	g.setUp()
	return g
}

// services are all services, held to the gate.
func (g *guarded) services(s *Services) {
	s.KV = NewKV(g.solo, KVOptions{Gate: g.gate})
	s.Maintenance = NewMaintenance(g.solo, func() Status { return Status{Leader: g.ID(), MemberID: g.ID()} })
	s.Maintenance.Alarms, s.Maintenance.Gate = g.solo, g.gate
	s.Cluster = NewCluster(g.solo)
	s.Cluster.Gate = g.gate
	s.Watch = NewWatch(g.solo, WatchOptions{Clock: g.clock, Authorize: g.gate.Watch})
	s.Lease = NewLease(g.solo)
	s.Lease.Permit, s.Lease.PermitKeys = g.gate.Lease, g.gate.LeaseKeys
	s.Auth = NewAuth(g.solo, g.gate)
}

func (g *guarded) check(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// with is the context of a client with a token, of one without for "".
func with(token string) context.Context {
	if token == "" {
		return context.Background()
	}
	return metadata.AppendToOutgoingContext(context.Background(), "token", token)
}

func (g *guarded) login(user, password string) string {
	g.t.Helper()
	r, err := g.auth.Authenticate(context.Background(), &etcdserverpb.AuthenticateRequest{Name: user, Password: password})
	g.check(err)
	return r.Token
}

func (g *guarded) grant(token, role string, kind authpb.Permission_Type, key, end string) {
	g.t.Helper()
	_, err := g.auth.RoleGrantPermission(with(token), &etcdserverpb.AuthRoleGrantPermissionRequest{
		Name: role, Perm: &authpb.Permission{PermType: kind, Key: []byte(key), RangeEnd: []byte(end)},
	})
	g.check(err)
}

func (g *guarded) revoke(token, role, key, end string) {
	g.t.Helper()
	_, err := g.auth.RoleRevokePermission(with(token), &etcdserverpb.AuthRoleRevokePermissionRequest{
		Role: role, Key: []byte(key), RangeEnd: []byte(end),
	})
	g.check(err)
}

func (g *guarded) setUp() {
	g.t.Helper()
	ctx := context.Background()
	for user, role := range map[string]string{"root": "root", "u": "role"} {
		_, err := g.auth.UserAdd(ctx, &etcdserverpb.AuthUserAddRequest{Name: user, Password: user + "pw"})
		g.check(err)
		if role != "root" {
			_, err := g.auth.RoleAdd(ctx, &etcdserverpb.AuthRoleAddRequest{Name: role})
			g.check(err)
		}
		_, err = g.auth.UserGrantRole(ctx, &etcdserverpb.AuthUserGrantRoleRequest{User: user, Role: role})
		g.check(err)
	}
	g.grant("", "role", authpb.READ, "r/", "r0")
	g.grant("", "role", authpb.WRITE, "w/", "w0")
	g.grant("", "role", authpb.READWRITE, "b/", "b0")
	for id, key := range map[int64]string{9: "sec", 7: "w/1"} {
		_, err := g.lease.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: 100_000})
		g.check(err)
		_, err = g.kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Lease: id})
		g.check(err)
	}
	_, err := g.auth.AuthEnable(ctx, &etcdserverpb.AuthEnableRequest{})
	g.check(err)
	g.root, g.u = g.login("root", "rootpw"), g.login("u", "upw")
}

// stock is a client of etcd's that logs in as a user, at a server of its own.
func (g *guarded) stock(user, password string) *clientv3.Client {
	g.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(g.t.Context(), "tcp", "127.0.0.1:0")
	g.check(err)
	srv := NewServer(Options{MaxRequestBytes: soloMax, HasLeader: func() bool { return true }, Logger: discard(), Gate: g.gate, Clock: g.clock})
	var s Services
	g.services(&s)
	s.Register(srv)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	g.t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
	})
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{l.Addr().String()}, Username: user, Password: password, Logger: zap.NewNop(), DialTimeout: time.Minute,
	})
	g.check(err)
	g.t.Cleanup(func() { _ = c.Close() }) // before the server stops
	return c
}
