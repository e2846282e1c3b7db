package rpc

import (
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// LeaseMember is what the Lease service needs of a member. All methods are called from many goroutines.
type LeaseMember interface {
	// LeaseGrant grants a lease, with an id of the member's choice for 0, and returns it with the revision.
	LeaseGrant(ctx context.Context, id, ttl int64) (lease.Lease, int64, error)
	// LeaseRevoke ends a lease and returns the revision.
	LeaseRevoke(ctx context.Context, id int64) (int64, error)
	// BeginLeaseRenew begins to give a lease its time to live again, and waits for nothing.
	BeginLeaseRenew(id int64) member.Renewal
	// LeaseRenew does so and returns the time to live.
	LeaseRenew(ctx context.Context, id int64) (ttl int64, err error)
	// LeaseTimeToLive tells what is left of a lease, and its keys if they are wanted.
	LeaseTimeToLive(ctx context.Context, id int64, keys bool) (member.LeaseStatus, error)
	// LeaseKeysSize returns about how many bytes the keys of a lease take in memory, 0 when there is no such lease.
	LeaseKeysSize(id int64) int64
	// Leases returns all ids, the one that ends first in front.
	Leases(ctx context.Context) ([]int64, error)
	// Header is as in KVMember.
	Header() (clusterID, memberID, term uint64)
	// Store gives the present revision.
	Store() *mvcc.Store
}

// LeaseAccess is what a client wants to do with the keys on a lease.
type LeaseAccess uint8

// What a client may want.
const (
	// LeaseKnown is nothing with the keys: to grant a lease, or ask how long one lives.
	LeaseKnown LeaseAccess = iota
	// LeaseKeysRead is to be told which they are.
	LeaseKeysRead
	// LeaseKeysWrite is to decide when they are deleted: to revoke the lease, or to keep it alive.
	LeaseKeysWrite
)

// Lease is the service etcdserverpb.Lease.
type Lease struct {
	etcdserverpb.UnimplementedLeaseServer
	member LeaseMember

	// Permit says whether the client of ctx may do something with the keys on a lease, and returns the context for what is
	// proposed. It is asked before anything is changed. Set before Register; nil allows everyone everything.
	Permit func(ctx context.Context, id int64, a LeaseAccess) (context.Context, error)

	// PermitKeys says whether the client of ctx may be told of keys that hang on a lease: those of the answer, which may be
	// others than Permit saw. Set before Register; nil allows everyone everything.
	PermitKeys func(ctx context.Context, keys [][]byte) error

	budget *budget // of answers with keys

	stopped context.Context // ended by stop
	stop    context.CancelFunc
}

// NewLease returns the service on a member.
func NewLease(m LeaseMember) *Lease {
	s := &Lease{member: m, budget: newBudget(0)}
	s.stopped, s.stop = context.WithCancel(context.Background())
	return s
}

// ShareBudget makes large answers, those with the keys of a lease, count in the budget of kv. It is to be called before Register.
func (s *Lease) ShareBudget(kv *KV) { s.budget = kv.budget }

// Register adds the service to a server.
func (s *Lease) Register(r grpc.ServiceRegistrar) {
	desc := etcdserverpb.Lease_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "LeaseTimeToLive" {
			desc.Methods[i].Handler = handleTimeToLive
		}
	}
	register(r, desc, s)
}

// Stop ends all streams of keep-alives, which do not end by themselves, with the error that lets clients go on at another
// member.
func (s *Lease) Stop() { s.stop() }

func (s *Lease) permit(ctx context.Context, id int64, a LeaseAccess) (context.Context, error) {
	if s.Permit == nil {
		return ctx, nil
	}
	return s.Permit(ctx, id, a)
}

// header returns the header of a response at a revision, at the newest one for 0.
func (s *Lease) header(rev int64) *etcdserverpb.ResponseHeader {
	if rev == 0 {
		rev = s.member.Store().Revision()
	}
	clusterID, memberID, term := s.member.Header()
	return &etcdserverpb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, Revision: rev, RaftTerm: term}
}

// LeaseGrant implements etcdserverpb.LeaseServer.
func (s *Lease) LeaseGrant(ctx context.Context, r *etcdserverpb.LeaseGrantRequest) (*etcdserverpb.LeaseGrantResponse, error) {
	ctx, err := s.permit(ctx, 0, LeaseKnown)
	if err != nil {
		return nil, toStatus(err)
	}
	l, rev, err := s.member.LeaseGrant(ctx, r.GetID(), r.GetTTL())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.LeaseGrantResponse{Header: s.header(rev), ID: l.ID, TTL: l.TTL}, nil
}

// LeaseRevoke implements etcdserverpb.LeaseServer.
func (s *Lease) LeaseRevoke(ctx context.Context, r *etcdserverpb.LeaseRevokeRequest) (*etcdserverpb.LeaseRevokeResponse, error) {
	ctx, err := s.permit(ctx, r.GetID(), LeaseKeysWrite)
	if err != nil {
		return nil, toStatus(err)
	}
	rev, err := s.member.LeaseRevoke(ctx, r.GetID())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.LeaseRevokeResponse{Header: s.header(rev)}, nil
}

// LeaseLeases implements etcdserverpb.LeaseServer.
func (s *Lease) LeaseLeases(ctx context.Context, _ *etcdserverpb.LeaseLeasesRequest) (*etcdserverpb.LeaseLeasesResponse, error) {
	if _, err := s.permit(ctx, 0, LeaseKnown); err != nil {
		return nil, toStatus(err)
	}
	ids, err := s.member.Leases(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	out := &etcdserverpb.LeaseLeasesResponse{Header: s.header(0), Leases: make([]*etcdserverpb.LeaseStatus, 0, len(ids))}
	for _, id := range ids {
		if _, err := s.permit(ctx, id, LeaseKeysRead); err != nil {
			return nil, toStatus(err)
		}
		out.Leases = append(out.Leases, &etcdserverpb.LeaseStatus{ID: id})
	}
	return out, nil
}
