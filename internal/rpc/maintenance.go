package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
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
	// Downgrade is the downgrade under way, zero when there is none.
	Downgrade cluster.Downgrade
}

// MaintenanceMember is what the Maintenance service needs of a member. All methods are called from many goroutines.
type MaintenanceMember interface {
	// HashKV hashes the key-values at a revision, 0 for the newest, and says which revision that was and to which
	// one the store is compacted.
	HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error)
	// Hash hashes everything, at the revision that it returns.
	Hash(ctx context.Context) (hash uint32, revision int64, err error)
	// Defragment gives the space of what was deleted back to the filesystem.
	Defragment(ctx context.Context) error
	// Export makes a database file of everything.
	Export(ctx context.Context) (*member.Export, error)
	// ResumeExport returns one again whose reader was cut off, or member.ErrExportGone.
	ResumeExport(ctx context.Context, id string) (*member.Export, error)
	// ValidateDowngrade, EnableDowngrade and CancelDowngrade return the cluster's version, such as "3.7".
	ValidateDowngrade(ctx context.Context, target string) (clusterVersion string, err error)
	EnableDowngrade(ctx context.Context, target string) (clusterVersion string, err error)
	CancelDowngrade(ctx context.Context) (clusterVersion string, err error)
	// TransferLeader gives leadership to another voter; to this member itself it does nothing.
	TransferLeader(ctx context.Context, to cluster.ID) error
}

// errUnknownMethod is returned for an action that the Downgrade method does not have.
var errUnknownMethod = status.Error(codes.Unknown, "etcdserver: unknown method")

// Maintenance is the service etcdserverpb.Maintenance.
type Maintenance struct {
	etcdserverpb.UnimplementedMaintenanceServer
	member MaintenanceMember
	status func() Status

	// Alarms serves Alarm. Set before Register; nil answers Unimplemented.
	Alarms AlarmMember
	// Gate is asked who may see and who may change alarms. Set before Register; nil allows everyone everything.
	Gate *Gate
}

// NewMaintenance returns the service on a member. status is called from many goroutines.
func NewMaintenance(m MaintenanceMember, status func() Status) *Maintenance {
	return &Maintenance{member: m, status: status}
}

// Register adds the service to a server.
func (s *Maintenance) Register(r grpc.ServiceRegistrar) {
	register(r, etcdserverpb.Maintenance_ServiceDesc, s)
}

func (st Status) header() *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{
		ClusterId: st.ClusterID, MemberId: st.MemberID, RaftTerm: st.Term, Revision: st.Revision,
	}
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
		Errors: errs,
		DowngradeInfo: &etcdserverpb.DowngradeInfo{
			Enabled: st.Downgrade.Enabled, TargetVersion: st.Downgrade.TargetVersion,
		},
	}, nil
}

// HashKV implements etcdserverpb.MaintenanceServer.
func (s *Maintenance) HashKV(ctx context.Context, r *etcdserverpb.HashKVRequest) (*etcdserverpb.HashKVResponse, error) {
	hash, compactRev, hashRev, err := s.member.HashKV(ctx, r.GetRevision())
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.HashKVResponse{
		Header: s.status().header(), Hash: hash, CompactRevision: compactRev, HashRevision: hashRev,
	}, nil
}

// Hash implements etcdserverpb.MaintenanceServer. etcd hashes its file, so only members of our kind compare.
func (s *Maintenance) Hash(ctx context.Context, _ *etcdserverpb.HashRequest) (*etcdserverpb.HashResponse, error) {
	hash, revision, err := s.member.Hash(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	header := s.status().header()
	header.Revision = revision
	return &etcdserverpb.HashResponse{Header: header, Hash: hash}, nil
}

// Defragment implements etcdserverpb.MaintenanceServer. Its answer is empty, as etcd's.
func (s *Maintenance) Defragment(ctx context.Context, _ *etcdserverpb.DefragmentRequest) (*etcdserverpb.DefragmentResponse, error) {
	if err := s.member.Defragment(ctx); err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.DefragmentResponse{}, nil
}

// MoveLeader implements etcdserverpb.MaintenanceServer. Only the leader can give leadership away, and only to a voter; to
// itself it has nothing to do.
func (s *Maintenance) MoveLeader(ctx context.Context, r *etcdserverpb.MoveLeaderRequest) (*etcdserverpb.MoveLeaderResponse, error) {
	st := s.status()
	if st.Leader != st.MemberID {
		return nil, rpctypes.ErrGRPCNotLeader
	}
	if err := s.member.TransferLeader(ctx, cluster.ID(r.GetTargetID())); err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.MoveLeaderResponse{}, nil
}

// Downgrade implements etcdserverpb.MaintenanceServer.
func (s *Maintenance) Downgrade(ctx context.Context, r *etcdserverpb.DowngradeRequest) (*etcdserverpb.DowngradeResponse, error) {
	var version string
	var err error
	switch r.GetAction() {
	case etcdserverpb.DowngradeRequest_VALIDATE:
		version, err = s.member.ValidateDowngrade(ctx, r.GetVersion())
	case etcdserverpb.DowngradeRequest_ENABLE:
		version, err = s.member.EnableDowngrade(ctx, r.GetVersion())
	case etcdserverpb.DowngradeRequest_CANCEL:
		version, err = s.member.CancelDowngrade(ctx)
	default:
		err = errUnknownMethod
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &etcdserverpb.DowngradeResponse{Header: s.status().header(), Version: version}, nil
}
