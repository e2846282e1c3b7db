package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
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
}

// Cluster is the service etcdserverpb.Cluster. Methods that are not built answer Unimplemented.
type Cluster struct {
	etcdserverpb.UnimplementedClusterServer
	member ClusterMember
}

// NewCluster returns the service on a member.
func NewCluster(m ClusterMember) *Cluster { return &Cluster{member: m} }

// Register adds the service to a server.
func (s *Cluster) Register(r grpc.ServiceRegistrar) { register(r, etcdserverpb.Cluster_ServiceDesc, s) }

// MemberList implements etcdserverpb.ClusterServer. Its header carries no revision, as etcd's.
func (s *Cluster) MemberList(ctx context.Context, r *etcdserverpb.MemberListRequest) (*etcdserverpb.MemberListResponse, error) {
	if r.GetLinearizable() {
		if err := s.member.ReadBarrier(ctx); err != nil {
			return nil, toStatus(err)
		}
	}
	clusterID, memberID, term := s.member.Header()
	out := &etcdserverpb.MemberListResponse{
		Header: &etcdserverpb.ResponseHeader{ClusterId: clusterID, MemberId: memberID, RaftTerm: term},
	}
	for _, m := range s.member.Members().Members() {
		out.Members = append(out.Members, &etcdserverpb.Member{
			ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner,
		})
	}
	return out, nil
}
