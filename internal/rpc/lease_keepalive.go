package rpc

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// LeaseKeepAlive implements etcdserverpb.LeaseServer: it renews the leases that the client names and answers in their order.
// A lease that is not there has no time to live; any other error ends the stream.
//
// One goroutine receives requests and begins their renewals, which joins them to the next confirmation of leadership; this one is woken by
// that and answers. So many renewals of a stream share a confirmation, and none needs a goroutine, unless it has to ask
// another member or to propose something. One that needs no wait and is alone is answered by the former.
func (s *Lease) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	q := newKeepAlives(s, stream)
	defer q.close()
	defer q.fail(nil)
	defer context.AfterFunc(s.stopped, func() { q.fail(rpctypes.ErrGRPCStopped) })()
	defer context.AfterFunc(q.ctx, q.Wake)()
	go q.receive()
	for {
		k := q.first()
		var ttl int64
		var err error
		if k != nil {
			ttl, err = q.outcome(k)
		}
		switch {
		case q.ctx.Err() != nil:
			return toStatus(context.Cause(q.ctx))
		case k == nil: // the client sends no more, and all is answered
			return nil
		case err != nil:
			auditOf(q.ctx).about(k.id)
			return toStatus(err)
		}
		if err := q.send(k.id, ttl); err != nil {
			return toStatus(err)
		}
		q.pop()
	}
}
