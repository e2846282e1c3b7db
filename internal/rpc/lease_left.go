package rpc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/lease"
)

// The fields of LeaseTimeToLiveResponse beside the header.
const (
	leftID      = 2
	leftTTL     = 3
	leftGranted = 4
	leftKeys    = 5
)

// handleTimeToLive is the handler of LeaseTimeToLive: its answer may be large, so it is encoded here and counted in the budget
// of large responses.
func handleTimeToLive(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (_ any, err error) {
	req := new(etcdserverpb.LeaseTimeToLiveRequest)
	if err := decode(req); err != nil {
		return nil, err
	}
	var resp *Response
	handler := func(ctx context.Context, in any) (_ any, err error) {
		resp, err = srv.(*Lease).timeToLive(ctx, in.(*etcdserverpb.LeaseTimeToLiveRequest))
		if err != nil {
			return nil, toStatus(err)
		}
		return resp, nil
	}
	defer func() {
		if err != nil && resp != nil {
			resp.drop() // the error came after it
		}
	}()
	if interceptor == nil {
		return handler(ctx, req)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: etcdserverpb.Lease_LeaseTimeToLive_FullMethodName}
	return interceptor(ctx, req, info, handler)
}

// timeToLive answers a LeaseTimeToLiveRequest. A lease that is not there has -1 seconds left.
func (s *Lease) timeToLive(ctx context.Context, q *etcdserverpb.LeaseTimeToLiveRequest) (_ *Response, err error) {
	access := LeaseKnown
	if q.GetKeys() {
		access = LeaseKeysRead
	}
	if _, err := s.permit(ctx, q.GetID(), access); err != nil {
		return nil, err
	}
	r := newResponse(s.budget)
	defer func() {
		if err != nil {
			r.drop()
		}
	}()
	if q.GetKeys() {
		if err := r.hold(ctx)(int(s.member.LeaseKeysSize(q.GetID()))); err != nil {
			return nil, err
		}
	}
	st, err := s.member.LeaseTimeToLive(ctx, q.GetID(), q.GetKeys())
	if errors.Is(err, lease.ErrNotFound) {
		st.ID, st.Remaining, err = q.GetID(), -1, nil
	}
	if err != nil {
		return nil, err
	}
	if s.PermitKeys != nil && len(st.Keys) > 0 {
		if err := s.PermitKeys(ctx, st.Keys); err != nil {
			return nil, err
		}
	}
	cluster, member, term := s.member.Header()
	r.header(header{cluster, member, s.member.Store().Revision(), term})
	if err := r.left(ctx, st.ID, st.Remaining, st.Granted, st.Keys); err != nil {
		return nil, err
	}
	r.release(0)
	return r, nil
}

// left appends what is known of a lease.
func (r *Response) left(ctx context.Context, id, ttl, granted int64, keys [][]byte) error {
	for _, f := range [...]struct {
		field uint32
		n     int64
	}{{leftID, id}, {leftTTL, ttl}, {leftGranted, granted}} {
		if err := r.number(ctx, f.field, uint64(f.n)); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := r.field(ctx, leftKeys, key); err != nil {
			return err
		}
	}
	return nil
}
