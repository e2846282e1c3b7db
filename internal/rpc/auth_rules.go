package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// rule says who may call a method while authentication is on.
type rule uint8

// The rules. A method without one is for root: a test demands one of every method.
const (
	// forRoot methods are root's.
	forRoot rule = iota
	// forUsers methods are for whoever shows who it is.
	forUsers
	// forEveryone methods need nothing.
	forEveryone
	// byHandler methods depend on the request: their handler asks the gate.
	byHandler
)

// rules holds the rule of every method, by service.
var rules = flatten(map[string]map[string]rule{
	etcdserverpb.KV_ServiceDesc.ServiceName: {
		"Range": byHandler, "RangeStream": byHandler, "Put": byHandler, "DeleteRange": byHandler, "Txn": byHandler,
		"Compact": byHandler,
	},
	etcdserverpb.Watch_ServiceDesc.ServiceName: {"Watch": byHandler},
	etcdserverpb.Lease_ServiceDesc.ServiceName: {
		"LeaseGrant": byHandler, "LeaseRevoke": byHandler, "LeaseKeepAlive": byHandler, "LeaseTimeToLive": byHandler,
		"LeaseLeases": byHandler,
	},
	etcdserverpb.Cluster_ServiceDesc.ServiceName: {
		"MemberList": forUsers, "MemberAdd": byHandler, "MemberRemove": forRoot, "MemberUpdate": forRoot, "MemberPromote": forRoot,
	},
	etcdserverpb.Maintenance_ServiceDesc.ServiceName: {
		"Status": forUsers, "Alarm": byHandler, "Defragment": forRoot, "Hash": forRoot, "HashKV": forRoot, "Snapshot": forRoot,
		"MoveLeader": forRoot, "Downgrade": forRoot,
	},
	etcdserverpb.Auth_ServiceDesc.ServiceName: {
		"AuthEnable": forRoot, "AuthDisable": forRoot, "AuthStatus": byHandler, "Authenticate": forEveryone,
		"UserAdd": forRoot, "UserGet": byHandler, "UserList": forRoot, "UserDelete": forRoot, "UserChangePassword": forRoot,
		"UserGrantRole": forRoot, "UserRevokeRole": forRoot,
		"RoleAdd": forRoot, "RoleGet": byHandler, "RoleList": forRoot, "RoleDelete": forRoot,
		"RoleGrantPermission": forRoot, "RoleRevokePermission": forRoot,
	},
	// Locks and elections are made of requests to KV and Lease, in the name of the client.
	lockpb.Lock_ServiceDesc.ServiceName: {"Lock": byHandler, "Unlock": byHandler},
	lockpb.Election_ServiceDesc.ServiceName: {
		"Campaign": byHandler, "Proclaim": byHandler, "Leader": byHandler, "Observe": byHandler, "Resign": byHandler,
	},
	grpc_health_v1.Health_ServiceDesc.ServiceName: {"Check": forEveryone, "List": forEveryone, "Watch": forEveryone},
})

func flatten(services map[string]map[string]rule) map[string]rule {
	out := make(map[string]rule)
	for service, methods := range services {
		for method, r := range methods {
			out["/"+service+"/"+method] = r
		}
	}
	return out
}

// enter holds a request to the rule of its method. The context that it returns is the request's from then on.
func (g *Gate) enter(ctx context.Context, method string) (context.Context, error) {
	if g == nil {
		return ctx, nil
	}
	var need func(*auth.Judge) error
	switch rules[method] {
	case forEveryone, byHandler:
		return ctx, nil
	case forUsers:
		need = authenticated
	default:
		need = admin
	}
	a, err := g.admit(ctx, need)
	return a.ctx, toStatus(err)
}

// entered is a stream with the context of enter.
type entered struct {
	grpc.ServerStream
	ctx context.Context
}

func (e entered) Context() context.Context { return e.ctx }
