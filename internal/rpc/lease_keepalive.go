package rpc

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/ashlar-kv/ashlar/internal/lease"
)

// keepAlivesMax is how many renewals of one stream are under way at a time. A client keeps all its leases alive on one
// stream; together they need one confirmation of leadership, one after the other they would need one each.
const keepAlivesMax = 128

// keepAlive is a renewal under way.
type keepAlive struct {
	id   int64
	done chan struct{} // closed after ttl and err are set
	ttl  int64
	err  error
}

// LeaseKeepAlive implements etcdserverpb.LeaseServer: it renews the leases that the client names and answers in their order.
// A lease that is not there has no time to live; any other error ends the stream.
func (s *Lease) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	var renewals sync.WaitGroup
	defer renewals.Wait()
	defer cancel()
	requests := make(chan received)
	go receive(ctx, stream, requests)
	var pending []*keepAlive // in the order of the requests
	ended := false           // the client sends no more
	for !ended || len(pending) > 0 {
		in := requests
		if ended || len(pending) == keepAlivesMax {
			in = nil
		}
		var first chan struct{}
		if len(pending) > 0 {
			first = pending[0].done
		}
		select {
		case r := <-in:
			switch {
			case errors.Is(r.err, io.EOF):
				ended = true
			case r.err != nil:
				return toStatus(r.err)
			default:
				k := &keepAlive{id: r.id, done: make(chan struct{})}
				pending = append(pending, k)
				renewals.Go(func() { s.renew(ctx, k) })
			}
		case <-first:
			if err := s.answer(stream, pending[0]); err != nil {
				return toStatus(err)
			}
			pending = pending[1:]
		case <-s.stopped:
			return rpctypes.ErrGRPCStopped
		case <-ctx.Done():
			return toStatus(ctx.Err())
		}
	}
	return nil
}

// received is what came from the client: a lease to renew, or an error.
type received struct {
	id  int64
	err error
}

// receive passes requests on until the stream or ctx ends.
func receive(ctx context.Context, stream etcdserverpb.Lease_LeaseKeepAliveServer, out chan<- received) {
	for {
		r, err := stream.Recv()
		select {
		case out <- received{r.GetID(), err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *Lease) renew(ctx context.Context, k *keepAlive) {
	defer close(k.done)
	if _, k.err = s.permit(ctx, k.id, LeaseKeysWrite); k.err != nil {
		return
	}
	k.ttl, k.err = s.member.LeaseRenew(ctx, k.id)
	if errors.Is(k.err, lease.ErrNotFound) {
		k.ttl, k.err = 0, nil
	}
}

func (s *Lease) answer(stream etcdserverpb.Lease_LeaseKeepAliveServer, k *keepAlive) error {
	if k.err != nil {
		auditOf(stream.Context()).about(k.id)
		return k.err
	}
	return stream.Send(&etcdserverpb.LeaseKeepAliveResponse{Header: s.header(0), ID: k.id, TTL: k.ttl})
}
