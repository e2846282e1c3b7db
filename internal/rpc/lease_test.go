package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// serveLeases runs a server with the Lease service and returns clients of it.
func serveLeases(t testing.TB, s *solo, change func(*Lease)) (etcdserverpb.LeaseClient, etcdserverpb.KVClient) {
	t.Helper()
	conn := serveServices(t, s, Options{}, func(x *Services) {
		x.Lease = NewLease(s)
		if change != nil {
			change(x.Lease)
		}
	})
	return etcdserverpb.NewLeaseClient(conn), etcdserverpb.NewKVClient(conn)
}

func grant(t testing.TB, c etcdserverpb.LeaseClient, id, ttl int64) {
	t.Helper()
	r, err := c.LeaseGrant(context.Background(), &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil || r.ID != id || r.TTL != ttl {
		t.Fatalf("granted %v, %v", r, err)
	}
}

func TestALeaseAndItsKeys(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	c, kv := serveLeases(t, s, nil)
	ctx := context.Background()
	grant(t, c, 7, 300)
	_, err := c.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: 7, TTL: 300})
	wantStatus(t, err, rpctypes.ErrGRPCLeaseExist)
	_, err = c.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{ID: 8, TTL: 9_000_000_001})
	wantStatus(t, err, rpctypes.ErrGRPCLeaseTTLTooLarge)
	for _, key := range []string{"b", "a"} {
		if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Lease: 7}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("c"), Lease: 9})
	wantStatus(t, err, rpctypes.ErrGRPCLeaseNotFound)
	ttl, err := c.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: 7, Keys: true})
	if err != nil || ttl.TTL != 299 || ttl.GrantedTTL != 300 || fmt.Sprintf("%s", ttl.Keys) != "[a b]" || ttl.Header.Revision != 3 {
		t.Errorf("time to live %v, %v", ttl, err)
	}
	ttl, err = c.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: 8, Keys: true})
	if err != nil || ttl.TTL != -1 || ttl.ID != 8 {
		t.Errorf("time to live of a lease that is not there: %v, %v", ttl, err)
	}
	all, err := c.LeaseLeases(ctx, &etcdserverpb.LeaseLeasesRequest{})
	if err != nil || len(all.Leases) != 1 || all.Leases[0].ID != 7 {
		t.Errorf("leases %v, %v", all, err)
	}
	gone, err := c.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: 7})
	if err != nil || gone.Header.Revision != 4 || gone.Header.MemberId != s.ID() {
		t.Errorf("revoked %v, %v", gone, err)
	}
	_, err = c.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: 7})
	wantStatus(t, err, rpctypes.ErrGRPCLeaseNotFound)
	if r, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("z")}); err != nil || r.Count != 0 {
		t.Errorf("keys left: %v, %v", r, err)
	}
}

func TestKeepAlivesAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	c, _ := serveLeases(t, newSolo(t), nil)
	const leases = 3 * keepAlivesMax // more than are under way at a time
	for id := range int64(leases) {
		grant(t, c, id+1, 100+id)
	}
	k, err := c.LeaseKeepAlive(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for id := range int64(leases) {
		for _, id := range []int64{id + 1, -1 - id} { // and one that is not there
			if err := k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := k.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for id := range int64(leases) {
		if r, err := k.Recv(); err != nil || r.ID != id+1 || r.TTL != 100+id || r.Header.Revision != 1 {
			t.Fatalf("answer %v, %v; want one to %d", r, err, id+1)
		}
		if r, err := k.Recv(); err != nil || r.ID != -1-id || r.TTL != 0 {
			t.Fatalf("answer %v, %v; want that %d is not there", r, err, -1-id)
		}
	}
	if _, err := k.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}
}

func TestKeepAlivesAreAnsweredWhileProposalsAreRefused(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	c, kv := serveLeases(t, s, nil)
	ctx := context.Background()
	grant(t, c, 1, 100)
	s.setRefuse(member.ErrTooManyRequests)
	_, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
	wantStatus(t, err, rpctypes.ErrGRPCRequestTooManyRequests)
	k, err := c.LeaseKeepAlive(ctx)
	if err == nil {
		err = k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := k.Recv(); err != nil || r.TTL != 100 {
		t.Errorf("answer %v, %v", r, err)
	}
}

func TestStopEndsKeepAlives(t *testing.T) {
	t.Parallel()
	var service *Lease
	c, _ := serveLeases(t, newSolo(t), func(l *Lease) { service = l })
	k, err := c.LeaseKeepAlive(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	service.Stop()
	_, err = k.Recv()
	wantStatus(t, err, rpctypes.ErrGRPCStopped)
	service.Stop() // again
}

// distant is a member that has to ask another one to renew leases.
type distant struct {
	*solo
	follower *member.Member
}

func (d distant) BeginLeaseRenew(id int64) member.Renewal { return d.follower.BeginLeaseRenew(id) }

func TestRenewalsThatAnotherMemberDoesNotAnswerEndTheStream(t *testing.T) {
	t.Parallel()
	initial, err := cluster.ParseInitialCluster("solo=http://127.0.0.1:2380,other=http://127.0.0.1:2381")
	if err != nil {
		t.Fatal(err)
	}
	cfg := soloConfig(t)
	cfg.InitialCluster, cfg.RequestTimeout = initial, 10*time.Millisecond
	follower, err := member.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := follower.Stop(); err != nil {
			t.Error(err)
		}
	})
	conn := serveServices(t, newSolo(t), Options{}, func(x *Services) { x.Lease = NewLease(distant{newSolo(t), follower}) })
	k, err := etcdserverpb.NewLeaseClient(conn).LeaseKeepAlive(context.Background())
	for id := range int64(3) {
		if err == nil {
			err = k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id + 1})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Recv()
	wantStatus(t, err, rpctypes.ErrGRPCTimeout)
}

// silent is a stream that nothing comes from and nothing is sent on.
type silent struct {
	etcdserverpb.Lease_LeaseKeepAliveServer
	ctx context.Context
}

func (s silent) Context() context.Context { return s.ctx }

// TestAClientThatGoesLeavesNoRenewal: whoever begins renewals and whoever answers them end with the stream, whatever they wait for.
func TestAClientThatGoesLeavesNoRenewal(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	// Nobody has confirmed a read of this member yet.
	cfg := soloConfig(t)
	m, err := member.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	l, stream := NewLease(m), silent{ctx: ctx}
	q := newKeepAlives(l, stream)
	defer context.AfterFunc(q.ctx, q.Wake)()
	for id := range int64(keepAlivesMax) {
		if !q.add(id + 1) {
			t.Fatal("not added")
		}
	}
	added := make(chan bool)
	go func() { added <- q.add(1) }() // there is no room
	cancel()
	q.close()
	if <-added {
		t.Error("a renewal begins after the end")
	}
	if q.add(1) {
		t.Error("another one, too")
	}
	empty := newKeepAlives(l, stream)
	if k := empty.first(); k != nil {
		t.Errorf("got %v of a stream without requests that has ended", k)
	}
}

func TestWhatIsNotPermittedIsNotDone(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "no")
	c, kv := serveLeases(t, newSolo(t), func(l *Lease) {
		l.Permit = func(ctx context.Context, id int64, a LeaseAccess) (context.Context, error) {
			if id == 2 && a != LeaseKnown {
				return nil, denied
			}
			return ctx, nil
		}
	})
	ctx := context.Background()
	grant(t, c, 1, 100)
	grant(t, c, 2, 100)
	_, err := c.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: 2})
	wantStatus(t, err, denied)
	_, err = c.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: 2, Keys: true})
	wantStatus(t, err, denied)
	_, err = c.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: 2})
	wantStatus(t, err, nil)
	_, err = c.LeaseLeases(ctx, &etcdserverpb.LeaseLeasesRequest{})
	wantStatus(t, err, denied)
	k, err := c.LeaseKeepAlive(ctx)
	if err == nil {
		err = k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: 2})
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Recv()
	wantStatus(t, err, denied)
	if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("k"), Lease: 2}); err != nil {
		t.Errorf("the lease is gone: %v", err)
	}
}

// crowded is a member one of whose leases has too many keys.
type crowded struct {
	*solo
	full int64
}

func (c crowded) LeaseHasRoom(id int64) error {
	if id == c.full {
		return member.ErrLeaseFull
	}
	return c.solo.LeaseHasRoom(id)
}

func TestPutsOnALeaseWithTooManyKeysAreRefused(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	conn := serveServices(t, s, Options{}, func(x *Services) {
		x.KV, x.Lease = NewKV(crowded{s, 2}, KVOptions{}), NewLease(s)
	})
	c, kv := etcdserverpb.NewLeaseClient(conn), etcdserverpb.NewKVClient(conn)
	grant(t, c, 1, 100)
	grant(t, c, 2, 100)
	ctx := context.Background()
	put := func(id int64) *etcdserverpb.PutRequest {
		return &etcdserverpb.PutRequest{Key: []byte(fmt.Sprint("k", id)), Lease: id}
	}
	within := func(p *etcdserverpb.PutRequest) *etcdserverpb.TxnRequest {
		return &etcdserverpb.TxnRequest{Failure: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: p}}}}
	}
	nested := func(p *etcdserverpb.PutRequest) *etcdserverpb.TxnRequest {
		return &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: within(p)}}}}
	}
	for id, want := range map[int64]codes.Code{1: codes.OK, 2: codes.ResourceExhausted} {
		_, err := kv.Put(ctx, put(id))
		_, inTxn := kv.Txn(ctx, within(put(id)))
		_, deep := kv.Txn(ctx, nested(put(id)))
		for _, err := range []error{err, inTxn, deep} {
			if status.Code(err) != want {
				t.Errorf("lease %d: %v, want %s", id, err, want)
			}
		}
	}
}
