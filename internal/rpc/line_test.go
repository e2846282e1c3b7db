package rpc

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/lockpb"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// lineLab is a member with locks and elections.
type lineLab struct {
	t    *testing.T
	solo *solo
	line *Line
	lockpb.LockClient
	lockpb.ElectionClient
	kv     etcdserverpb.KVClient
	leases etcdserverpb.LeaseClient
}

func newLineLab(t *testing.T) *lineLab {
	t.Helper()
	l := &lineLab{t: t, solo: newSolo(t)}
	conn := serveServices(t, l.solo, Options{}, func(s *Services) {
		s.Lease = NewLease(l.solo)
		l.line = NewLine(s.KV, s.Lease, l.solo.Hub(), clock.Real())
		s.Lock, s.Election = NewLock(l.line), NewElection(l.line)
	})
	l.LockClient, l.ElectionClient = lockpb.NewLockClient(conn), lockpb.NewElectionClient(conn)
	l.kv, l.leases = etcdserverpb.NewKVClient(conn), etcdserverpb.NewLeaseClient(conn)
	return l
}

func (l *lineLab) grant(ttl int64) int64 {
	l.t.Helper()
	r, err := l.leases.LeaseGrant(l.t.Context(), &etcdserverpb.LeaseGrantRequest{TTL: ttl})
	if err != nil {
		l.t.Fatal(err)
	}
	return r.GetID()
}

// lock asks for a name with a lease and gives the answer on a channel.
func (l *lineLab) lock(ctx context.Context, name string, lease int64) <-chan locked {
	out := make(chan locked, 1)
	go func() {
		r, err := l.Lock(ctx, &lockpb.LockRequest{Name: []byte(name), Lease: lease})
		out <- locked{r, err}
	}()
	return out
}

type locked struct {
	r   *lockpb.LockResponse
	err error
}

func (l *lineLab) got(c <-chan locked) *lockpb.LockResponse {
	l.t.Helper()
	a := <-c
	if a.err != nil {
		l.t.Fatal(a.err)
	}
	return a.r
}

// waitKeys waits until a line has n keys.
func (l *lineLab) waitKeys(name string, n int64) {
	l.t.Helper()
	key, end := lineRange([]byte(name))
	for {
		r, err := l.kv.Range(l.t.Context(), &etcdserverpb.RangeRequest{Key: key, RangeEnd: end, CountOnly: true})
		if err != nil {
			l.t.Fatal(err)
		}
		if r.GetCount() == n {
			return
		}
	}
}

func TestALockHasOneOwnerAtATime(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	const clients, rounds = 8, 5
	var owners atomic.Int32
	var wg sync.WaitGroup
	for range clients {
		lease := l.grant(60)
		wg.Go(func() {
			for range rounds {
				r, err := l.Lock(t.Context(), &lockpb.LockRequest{Name: []byte("n"), Lease: lease})
				if err != nil {
					t.Error(err)
					return
				}
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d owners", n)
				}
				owners.Add(-1)
				if _, err := l.Unlock(t.Context(), &lockpb.UnlockRequest{Key: r.GetKey()}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	l.waitKeys("n", 0)
}

func TestALineKeepsItsOrderAndLeasesEndPlaces(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	a, b, c := l.grant(60), l.grant(60), l.grant(60)
	first := l.got(l.lock(t.Context(), "n", a))
	if want := fmt.Sprintf("n/%x", a); string(first.GetKey()) != want || first.GetHeader().GetRevision() != 2 {
		t.Errorf("got %v, want key %s", first, want)
	}
	second := l.lock(t.Context(), "n", b)
	l.waitKeys("n", 2)
	third := l.lock(t.Context(), "n", c)
	l.waitKeys("n", 3)
	if again := l.got(l.lock(t.Context(), "n", a)); !bytes.Equal(again.GetKey(), first.GetKey()) {
		t.Errorf("the owner asked again and got %s", again.GetKey())
	}
	// The lease of the second ends while it waits: it is told so, and the third waits on.
	if _, err := l.leases.LeaseRevoke(t.Context(), &etcdserverpb.LeaseRevokeRequest{ID: b}); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, (<-second).err, status.Error(codes.Unknown, "mutex: session is expired"))
	select {
	case r := <-third:
		t.Fatalf("the third has it: %v", r)
	default:
	}
	// The lease of the owner ends: the third is next.
	if _, err := l.leases.LeaseRevoke(t.Context(), &etcdserverpb.LeaseRevokeRequest{ID: a}); err != nil {
		t.Fatal(err)
	}
	l.got(third)
}

func TestTheKeyOfALockIsAFencingToken(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	a, b := l.grant(60), l.grant(60)
	old := l.got(l.lock(t.Context(), "n", a))
	write := func(r *lockpb.LockResponse, value string) bool {
		out, err := l.kv.Txn(t.Context(), &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{{Key: r.GetKey(), Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_GREATER}},
			Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{
				RequestPut: &etcdserverpb.PutRequest{Key: []byte("data"), Value: []byte(value)}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.GetSucceeded()
	}
	if !write(old, "1") {
		t.Error("the owner may not write")
	}
	if _, err := l.leases.LeaseRevoke(t.Context(), &etcdserverpb.LeaseRevokeRequest{ID: a}); err != nil {
		t.Fatal(err)
	}
	next := l.got(l.lock(t.Context(), "n", b))
	if write(old, "2") || !write(next, "3") {
		t.Error("one that lost the lock may write, or the owner may not")
	}
}

func TestWhoGivesUpWaitingLeavesTheLine(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	held := l.got(l.lock(t.Context(), "n", 0))
	ctx, cancel := context.WithCancel(t.Context())
	waiting := l.lock(ctx, "n", l.grant(60))
	unknown := l.lock(ctx, "n", 0)
	l.waitKeys("n", 3)
	cancel()
	for _, c := range []<-chan locked{waiting, unknown} {
		if status.Code((<-c).err) != codes.Canceled {
			t.Error("not canceled")
		}
	}
	l.waitKeys("n", 1)
	if r, err := l.leases.LeaseLeases(t.Context(), &etcdserverpb.LeaseLeasesRequest{}); err != nil || len(r.GetLeases()) != 2 {
		t.Errorf("leases %v, %v: the one made for the client is to be revoked", r, err)
	}
	if _, err := l.Unlock(t.Context(), &lockpb.UnlockRequest{Key: held.GetKey()}); err != nil {
		t.Fatal(err)
	}
}

func TestALineOutlastsTheLossOfTheLeader(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	held := l.got(l.lock(t.Context(), "n", l.grant(60)))
	waiting := l.lock(t.Context(), "n", l.grant(60))
	l.waitKeys("n", 2)
	for _, loss := range []error{member.ErrNoLeader, member.ErrLeaderChanged, member.ErrTimeout} {
		l.solo.setRefuse(loss)
		demanding := metadata.AppendToOutgoingContext(t.Context(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
		if code := status.Code((<-l.lock(demanding, "other", 1)).err); code != codes.Unavailable {
			t.Errorf("%v: a client that demands a leader got %v", loss, code)
		}
		l.solo.setRefuse(nil)
	}
	lease := l.grant(60)
	_, before := l.solo.counts()
	l.solo.setRefuse(member.ErrLeaderChanged)
	late := l.lock(t.Context(), "late", lease)
	for n := before; n < before+2; _, n = l.solo.counts() { // until it was refused, and has asked again
		runtime.Gosched()
	}
	l.solo.setRefuse(nil)
	l.got(late)
	if _, err := l.Unlock(t.Context(), &lockpb.UnlockRequest{Key: held.GetKey()}); err != nil {
		t.Fatal(err)
	}
	l.got(waiting)
}

func TestStopEndsThoseThatWait(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	l.got(l.lock(t.Context(), "n", 0))
	waiting := l.lock(t.Context(), "n", l.grant(60))
	l.waitKeys("n", 2)
	l.line.Stop()
	wantStatus(t, (<-waiting).err, rpctypes.ErrGRPCStopped)
	wantStatus(t, (<-l.lock(t.Context(), "n", l.grant(60))).err, rpctypes.ErrGRPCStopped)
}

func TestAnElectionIsObserved(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	name := []byte("e")
	_, err := l.Leader(t.Context(), &lockpb.LeaderRequest{Name: name})
	wantStatus(t, err, status.Error(codes.Unknown, "election: no leader"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen, err := l.Observe(ctx, &lockpb.LeaderRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	campaign := func(value string) *lockpb.LeaderKey {
		t.Helper()
		r, err := l.Campaign(t.Context(), &lockpb.CampaignRequest{Name: name, Lease: l.grant(60), Value: []byte(value)})
		if err != nil {
			t.Error(err)
			return nil
		}
		return r.GetLeader()
	}
	one := campaign("one")
	next(t, seen, "one", one.GetRev())
	two := make(chan *lockpb.LeaderKey, 1)
	go func() { two <- campaign("two") }()
	l.waitKeys("e", 2)
	for _, v := range []string{"one again", "one more"} {
		if _, err := l.Proclaim(t.Context(), &lockpb.ProclaimRequest{Leader: one, Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	next(t, seen, "one again", 0)
	next(t, seen, "one more", 0)
	if _, err := l.Resign(t.Context(), &lockpb.ResignRequest{Leader: one}); err != nil {
		t.Fatal(err)
	}
	leader := <-two
	next(t, seen, "two", 0)
	_, err = l.Proclaim(t.Context(), &lockpb.ProclaimRequest{Leader: one, Value: []byte("late")})
	wantStatus(t, err, status.Error(codes.Unknown, "election: not leader"))
	if _, err := l.Resign(t.Context(), &lockpb.ResignRequest{Leader: one}); err != nil {
		t.Errorf("a second resignation: %v", err)
	}
	if r, err := l.Leader(t.Context(), &lockpb.LeaderRequest{Name: name}); err != nil || !bytes.Equal(r.GetKv().GetKey(), leader.GetKey()) {
		t.Errorf("leader %v, %v", r, err)
	}
	// With the same lease the campaign is the same one, with another value.
	r, err := l.Campaign(t.Context(), &lockpb.CampaignRequest{Name: name, Lease: leader.GetLease(), Value: []byte("two again")})
	if err != nil || r.GetLeader().GetRev() != leader.GetRev() {
		t.Errorf("got %v, %v", r, err)
	}
	next(t, seen, "two again", 0)
}

// next takes the next thing that was observed.
func next(t *testing.T, s grpc.ServerStreamingClient[lockpb.LeaderResponse], value string, rev int64) {
	t.Helper()
	r, err := s.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if string(r.GetKv().GetValue()) != value || rev != 0 && r.GetHeader().GetRevision() != rev {
		t.Errorf("observed %v, want %q at %d", r, value, rev)
	}
}

func TestRequestsOfLinesThatAskForNothing(t *testing.T) {
	t.Parallel()
	l := newLineLab(t)
	unknown := func(text string) error { return status.Error(codes.Unknown, text) }
	_, err := l.Lock(t.Context(), &lockpb.LockRequest{Name: []byte("n"), Lease: 99})
	wantStatus(t, err, unknown("etcdserver: requested lease not found"))
	_, err = l.Unlock(t.Context(), &lockpb.UnlockRequest{})
	wantStatus(t, err, unknown("etcdserver: key is not provided"))
	_, err = l.Resign(t.Context(), &lockpb.ResignRequest{})
	wantStatus(t, err, unknown(`"leader" field must be provided`))
	_, err = l.Proclaim(t.Context(), &lockpb.ProclaimRequest{})
	wantStatus(t, err, unknown(`"leader" field must be provided`))
	if _, err := l.Unlock(t.Context(), &lockpb.UnlockRequest{Key: []byte("none")}); err != nil {
		t.Errorf("unlock nothing: %v", err)
	}
	if r, err := l.Lock(t.Context(), &lockpb.LockRequest{}); err != nil || r.GetKey()[0] != '/' {
		t.Errorf("the empty name: %v, %v", r, err)
	}
}
