package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// ClusterMember is what the Cluster service needs of a member.
type ClusterMember interface {
	// ReadBarrier and Header are as in KVMember.
	ReadBarrier(ctx context.Context) error
	Header() (clusterID, memberID, term uint64)
	// Members returns the membership as applied.
	Members() *cluster.Membership
	// The changes are as in member.Member. Each returns once it is applied here.
	AddMember(ctx context.Context, peerURLs []string, learner bool) (cluster.Member, error)
	RemoveMember(ctx context.Context, id cluster.ID) error
	UpdateMember(ctx context.Context, id cluster.ID, peerURLs []string) error
	PromoteMember(ctx context.Context, id cluster.ID) error
}

// Cluster is the service etcdserverpb.Cluster. Its headers carry no revision, as etcd's.
type Cluster struct {
	etcdserverpb.UnimplementedClusterServer
	member ClusterMember

	// Gate is asked who may add members, after the request was checked. Set before Register; nil allows everyone.
	Gate *Gate
}

// NewCluster returns the service on a member.
func NewCluster(m ClusterMember) *Cluster { return &Cluster{member: m} }

// Register adds the service to a server.
func (s *Cluster) Register(r grpc.ServiceRegistrar) { register(r, etcdserverpb.Cluster_ServiceDesc, s) }

// MemberList implements etcdserverpb.ClusterServer.
func (s *Cluster) MemberList(ctx context.Context, r *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	if r.GetLinearizable() {
		if err := s.member.ReadBarrier(ctx); err != nil {
			return nil, toStatus(err)
		}
	}
	return &etcdserverpb.MemberListResponse{Header: s.header(), Members: s.members()}, nil
}

// MemberAdd implements etcdserverpb.ClusterServer.
func (s *Cluster) MemberAdd(ctx context.Context, r *etcdserverpb.MemberAddRequest) (*etcdserverpb.MemberAddResponse, error) {
	urls, ok := parsePeerURLs(r.GetPeerURLs())
	if !ok {
		return nil, rpctypes.ErrGRPCMemberBadURLs
	}
	if _, err := s.Gate.admit(ctx, admin); err != nil {
		return nil, toStatus(err)
	}
	m, err := s.member.AddMember(ctx, urls, r.GetIsLearner())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.MemberAddResponse{Header: s.header(), Member: memberMessage(m), Members: s.members()}, nil
}

// MemberRemove implements etcdserverpb.ClusterServer.
func (s *Cluster) MemberRemove(ctx context.Context, r *etcdserverpb.MemberRemoveRequest) (*etcdserverpb.MemberRemoveResponse, error) {
	if err := s.member.RemoveMember(ctx, cluster.ID(r.GetID())); err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.MemberRemoveResponse{Header: s.header(), Members: s.members()}, nil
}

// MemberUpdate implements etcdserverpb.ClusterServer. It checks no URLs, as etcd.
func (s *Cluster) MemberUpdate(ctx context.Context, r *etcdserverpb.MemberUpdateRequest) (*etcdserverpb.MemberUpdateResponse, error) {
	if err := s.member.UpdateMember(ctx, cluster.ID(r.GetID()), r.GetPeerURLs()); err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.MemberUpdateResponse{Header: s.header(), Members: s.members()}, nil
}

// MemberPromote implements etcdserverpb.ClusterServer.
func (s *Cluster) MemberPromote(ctx context.Context, r *etcdserverpb.MemberPromoteRequest) (*etcdserverpb.MemberPromoteResponse, error) {
	if err := s.member.PromoteMember(ctx, cluster.ID(r.GetID())); err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.MemberPromoteResponse{Header: s.header(), Members: s.members()}, nil
}

func (s *Cluster) header() *etcdserverpb.ResponseHeader {
	clusterID, memberID, term := s.member.Header()
	return &etcdserverpb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, RaftTerm: term}
}

func (s *Cluster) members() []*etcdserverpb.Member {
	all := s.member.Members().Members()
	out := make([]*etcdserverpb.Member, len(all))
	for i, m := range all {
		out[i] = memberMessage(m)
	}
	return out
}

func memberMessage(m cluster.Member) *etcdserverpb.Member {
	return &etcdserverpb.Member{
		ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
	}
}
