package rpc

import (
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// describe notes what a request is about, and tells whether it changes nothing. Only what is named here gets into the audit log:
// no value, no password, no hash, no token.
func describe(r *audit.Record, req any) (read bool) {
	switch m := req.(type) {
	case *Request:
		return describeKV(r, m)
	case *etcdserverpb.LeaseGrantRequest:
		r.Lease = m.GetID()
	case *etcdserverpb.LeaseRevokeRequest:
		r.Lease = m.GetID()
	case *etcdserverpb.LeaseTimeToLiveRequest:
		r.Lease = m.GetID()
		return true
	case *etcdserverpb.AlarmRequest:
		r.Detail = strings.TrimSpace(m.GetAction().String() + " " + m.GetAlarm().String())
		r.Member = memberID(m.GetMemberID())
		return m.GetAction() == etcdserverpb.AlarmRequest_GET
	case *etcdserverpb.DowngradeRequest:
		r.Detail = m.GetAction().String() + " " + m.GetVersion()
	case *etcdserverpb.LeaseKeepAliveRequest, *etcdserverpb.LeaseLeasesRequest, *etcdserverpb.WatchRequest,
		*etcdserverpb.MemberListRequest, *etcdserverpb.StatusRequest, *etcdserverpb.HashRequest, *etcdserverpb.HashKVRequest,
		*etcdserverpb.AuthStatusRequest, *etcdserverpb.AuthUserListRequest, *etcdserverpb.AuthRoleListRequest,
		*grpc_health_v1.HealthCheckRequest, *grpc_health_v1.HealthListRequest:
		return true
	default:
		return describeMember(r, m) || describeAccount(r, m) || describeLine(r, m)
	}
	return false
}

// describeMember notes which member a request is about.
func describeMember(r *audit.Record, req any) (read bool) {
	switch m := req.(type) {
	case *etcdserverpb.MemberAddRequest:
		r.Detail = strings.Join(m.GetPeerURLs(), ",")
	case *etcdserverpb.MemberRemoveRequest:
		r.Member = memberID(m.GetID())
	case *etcdserverpb.MemberUpdateRequest:
		r.Member, r.Detail = memberID(m.GetID()), strings.Join(m.GetPeerURLs(), ",")
	case *etcdserverpb.MemberPromoteRequest:
		r.Member = memberID(m.GetID())
	case *etcdserverpb.MoveLeaderRequest:
		r.Member = memberID(m.GetTargetID())
	}
	return false
}

func memberID(id uint64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%x", id)
}

// describeAccount notes which users and roles a request is about.
func describeAccount(r *audit.Record, req any) (read bool) {
	switch m := req.(type) {
	case *etcdserverpb.AuthenticateRequest:
		r.Subject = m.GetName()
	case *etcdserverpb.AuthUserAddRequest:
		r.Subject = m.GetName()
	case *etcdserverpb.AuthUserGetRequest:
		r.Subject = m.GetName()
		return true
	case *etcdserverpb.AuthUserDeleteRequest:
		r.Subject = m.GetName()
	case *etcdserverpb.AuthUserChangePasswordRequest:
		r.Subject = m.GetName()
	case *etcdserverpb.AuthUserGrantRoleRequest:
		r.Subject, r.Role = m.GetUser(), m.GetRole()
	case *etcdserverpb.AuthUserRevokeRoleRequest:
		r.Subject, r.Role = m.GetName(), m.GetRole()
	case *etcdserverpb.AuthRoleAddRequest:
		r.Role = m.GetName()
	case *etcdserverpb.AuthRoleGetRequest:
		r.Role = m.GetRole()
		return true
	case *etcdserverpb.AuthRoleDeleteRequest:
		r.Role = m.GetRole()
	case *etcdserverpb.AuthRoleGrantPermissionRequest:
		p := m.GetPerm()
		r.Role, r.Detail = m.GetName(), p.GetPermType().String()
		touch(r, audit.Touch{Op: "grant", Key: p.GetKey(), End: p.GetRangeEnd()})
	case *etcdserverpb.AuthRoleRevokePermissionRequest:
		r.Role = m.GetRole()
		touch(r, audit.Touch{Op: "revoke", Key: m.GetKey(), End: m.GetRangeEnd()})
	}
	return false
}

// describeLine notes which lock or election a request is about.
func describeLine(r *audit.Record, req any) (read bool) {
	switch m := req.(type) {
	case *lockpb.LockRequest:
		touch(r, audit.Touch{Op: "lock", Key: m.GetName(), Lease: m.GetLease()})
	case *lockpb.UnlockRequest:
		touch(r, audit.Touch{Op: "unlock", Key: m.GetKey()})
	case *lockpb.CampaignRequest:
		touch(r, audit.Touch{Op: "campaign", Key: m.GetName(), Lease: m.GetLease()})
	case *lockpb.ProclaimRequest:
		touch(r, audit.Touch{Op: "proclaim", Key: m.GetLeader().GetKey()})
	case *lockpb.ResignRequest:
		touch(r, audit.Touch{Op: "resign", Key: m.GetLeader().GetKey()})
	case *lockpb.LeaderRequest: // of Leader, and of Observe
		touch(r, audit.Touch{Op: "leader", Key: m.GetName()})
		return true
	}
	return false
}

// describeKV notes which keys a request is about.
func describeKV(r *audit.Record, req *Request) (read bool) {
	switch req.method {
	case MethodRange, MethodRangeStream:
		touchRange(r, &req.get)
		return true
	case MethodPut:
		touchPut(r, &req.put)
	case MethodDeleteRange:
		touchDelete(r, &req.del)
	case MethodTxn:
		touchTxn(r, &req.txn)
		return req.txn.ReadOnly()
	case MethodCompact:
		r.Revision = req.compact.Revision
	}
	return false
}

// touch notes a range of keys, or that there was one more.
func touch(r *audit.Record, t audit.Touch) {
	if len(r.Touches) == audit.TouchesMax {
		r.More++
		return
	}
	r.Touches = append(r.Touches, t)
}

func touchRange(r *audit.Record, q *apply.Range) {
	touch(r, audit.Touch{Op: "range", Key: q.Key, End: q.RangeEnd})
}

func touchPut(r *audit.Record, p *apply.Put) {
	touch(r, audit.Touch{Op: "put", Key: p.Key, Lease: p.Lease})
}

func touchDelete(r *audit.Record, d *apply.DeleteRange) {
	touch(r, audit.Touch{Op: "delete", Key: d.Key, End: d.RangeEnd})
}

// touchTxn notes what a transaction names in either branch, at any depth.
func touchTxn(r *audit.Record, t *apply.Txn) {
	for i := range t.Compare {
		touch(r, audit.Touch{Op: "compare", Key: t.Compare[i].Key, End: t.Compare[i].RangeEnd})
	}
	for _, branch := range [2][]apply.Op{t.Success, t.Failure} {
		for i := range branch {
			switch op := &branch[i]; {
			case op.Range != nil:
				touchRange(r, op.Range)
			case op.Put != nil:
				touchPut(r, op.Put)
			case op.DeleteRange != nil:
				touchDelete(r, op.DeleteRange)
			case op.Txn != nil:
				touchTxn(r, op.Txn)
			}
		}
	}
}
