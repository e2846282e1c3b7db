package rpc

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// AlarmMember is what alarms need of a member.
type AlarmMember interface {
	// Propose and Header are as in KVMember.
	Propose(ctx context.Context, c apply.Command, raw []byte) (apply.Result, error)
	Header() (clusterID, memberID, term uint64)
}

// Alarm implements etcdserverpb.MaintenanceServer. Every request goes through the log, get too, as in etcd: the answer is
// that of a moment in the order of all writes. An unknown action is refused here; it ends the member of etcd that proposes it.
func (s *Maintenance) Alarm(ctx context.Context, r *etcdserverpb.AlarmRequest) (*etcdserverpb.AlarmResponse, error) {
	if s.Alarms == nil {
		return s.UnimplementedMaintenanceServer.Alarm(ctx, r)
	}
	if _, known := etcdserverpb.AlarmRequest_AlarmAction_name[int32(r.GetAction())]; !known {
		return nil, status.Errorf(codes.InvalidArgument, "ashlar: unknown alarm action %d", r.GetAction())
	}
	need := admin
	if r.GetAction() == etcdserverpb.AlarmRequest_GET {
		need = authenticated
	}
	a, err := s.Gate.admit(ctx, need)
	if err != nil {
		return nil, toStatus(err)
	}
	raw, err := proto.Marshal(&etcdserverpb.AlarmRequest{
		Action: r.GetAction(), MemberID: r.GetMemberID(), Alarm: r.GetAlarm(), // and no unknown fields
	})
	if err != nil {
		return nil, toStatus(err)
	}
	res, err := s.Alarms.Propose(a.ctx, apply.CommandAlarm, raw)
	if err != nil {
		return nil, toStatus(err)
	}
	out := &etcdserverpb.AlarmResponse{}
	if err := proto.Unmarshal(res.Body, out); err != nil {
		return nil, toStatus(fmt.Errorf("decode the alarms: %w", err))
	}
	clusterID, memberID, term := s.Alarms.Header()
	out.Header = &etcdserverpb.ResponseHeader{
		ClusterId: clusterID, MemberId: memberID, RaftTerm: term, Revision: res.Revision,
	}
	return out, nil
}
