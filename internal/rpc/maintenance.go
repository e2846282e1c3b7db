package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// Status is what Maintenance.Status tells of a member.
type Status struct {
	ClusterID, MemberID, Term uint64
	Revision                  int64
	// EtcdVersion is the etcd level that the member speaks, StorageVersion that of its data ("3.7.0").
	EtcdVersion, StorageVersion string
	// Leader is the id of the leader the member knows, 0 for none.
	Leader uint64
	// CommitIndex and AppliedIndex are the member's.
	CommitIndex, AppliedIndex uint64
	// DBSize is the bytes of the state on disk, InUse those of live data, Quota the bound.
	DBSize, InUse, Quota int64
	// Learner says whether the member is a learner.
	Learner bool
	// Errors are what is wrong beside a missing leader, which is told from Leader: alarms.
	Errors []string
}

// Maintenance is the service etcdserverpb.Maintenance. Methods that are not built answer Unimplemented.
type Maintenance struct {
	etcdserverpb.UnimplementedMaintenanceServer
	status func() Status

	// KVHash hashes the key-values at a revision, 0 for the newest, and says which revision that was and to which
	// one the store is compacted. Set before Register; nil answers Unimplemented.
	KVHash func(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error)
}

// NewMaintenance returns the service. status is called from many goroutines.
func NewMaintenance(status func() Status) *Maintenance { return &Maintenance{status: status} }

// Register adds the service to a server.
func (s *Maintenance) Register(r grpc.ServiceRegistrar) {
	register(r, etcdserverpb.Maintenance_ServiceDesc, s)
}

// Status implements etcdserverpb.MaintenanceServer.
func (s *Maintenance) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	st := s.status()
	errs := st.Errors
	if st.Leader == 0 {
		errs = append([]string{"etcdserver: no leader"}, errs...)
	}
	return &etcdserverpb.StatusResponse{
		Header:  st.header(),
		Version: st.EtcdVersion, StorageVersion: st.StorageVersion,
		DbSize: st.DBSize, DbSizeInUse: st.InUse, DbSizeQuota: st.Quota,
		Leader: st.Leader, IsLearner: st.Learner,
		RaftIndex: st.CommitIndex, RaftTerm: st.Term, RaftAppliedIndex: st.AppliedIndex,
		Errors:        errs,
		DowngradeInfo: &etcdserverpb.DowngradeInfo{},
	}, nil
}

// HashKV implements etcdserverpb.MaintenanceServer.
func (s *Maintenance) HashKV(ctx context.Context, r *etcdserverpb.HashKVRequest) (*etcdserverpb.HashKVResponse, error) {
	if s.KVHash == nil {
		return s.UnimplementedMaintenanceServer.HashKV(ctx, r)
	}
	hash, compactRev, hashRev, err := s.KVHash(ctx, r.GetRevision())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.HashKVResponse{
		Header: s.status().header(), Hash: hash, CompactRevision: compactRev, HashRevision: hashRev,
	}, nil
}

func (st Status) header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{
		ClusterId: st.ClusterID, MemberId: st.MemberID, RaftTerm: st.Term, Revision: st.Revision,
	}
}
