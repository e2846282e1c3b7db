package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
)

// Lock is the service v3lockpb.Lock.
type Lock struct {
	lockpb.UnimplementedLockServer
	line *line
}

// NewLock returns the service on a line.
func NewLock(l *Line) *Lock { return &Lock{line: &l.line} }

// Register adds the service to a server.
func (s *Lock) Register(r grpc.ServiceRegistrar) { register(r, lockpb.Lock_ServiceDesc, s) }

// Lock implements lockpb.LockServer. It waits for as long as the client does.
func (s *Lock) Lock(ctx context.Context, r *lockpb.LockRequest) (*lockpb.LockResponse, error) {
	ctx, cancel := s.line.during(ctx)
	defer cancel()
	p, h, err := s.line.enter(ctx, r.GetName(), nil, r.GetLease())
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return &lockpb.LockResponse{Header: h, Key: p.key}, nil
}

// Unlock implements lockpb.LockServer.
func (s *Lock) Unlock(ctx context.Context, r *lockpb.UnlockRequest) (*lockpb.UnlockResponse, error) {
	out := new(etcdserverpb.DeleteRangeResponse)
	err := s.line.call(ctx, MethodDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: r.GetKey()}, out, s.line.kv.DeleteRange)
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	return &lockpb.UnlockResponse{Header: out.GetHeader()}, nil
}
