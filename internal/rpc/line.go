package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

const (
	// sessionTTL is the time to live of a lease that a client leaves to us, in seconds, as in etcd.
	sessionTTL = 60
	// lineRetry is after how long a request is made again that found no leader.
	lineRetry = 100 * time.Millisecond
	// cleanupTime is how long giving up a place may take.
	cleanupTime = 5 * time.Second
)

// errSessionLost is returned when a place ended while its owner waited in the line.
var errSessionLost = errors.New("mutex: session is expired")

// line is what locks and elections are made of: clients wait for a name one behind another, in the order of the create
// revisions of their keys, NAME/LEASE. The first is the owner. A place ends with its lease.
//
//  1. All requests are made as the client's own, so that its permissions count.
//  2. Who is told to be first was first at a moment after it asked, by a linearizable read of its own key and of all before
//     it; events only say when to look again. So neither a new leader nor a member that lags behind makes two owners.
//  3. A key is never created again while it is there: asking again with the same lease finds the old place.
type line struct {
	kv     *KV
	leases *Lease
	hub    *watch.Hub
	clock  clock.Clock
	end    context.Context // ends with the service
	stop   context.CancelFunc
}

// NewLine returns what Lock and Election need. kv and leases are the services of the member, with the gates of their clients.
func NewLine(kv *KV, leases *Lease, hub *watch.Hub, c clock.Clock) *Line {
	ctx, cancel := context.WithCancel(context.Background())
	return &Line{line{kv: kv, leases: leases, hub: hub, clock: c, end: ctx, stop: cancel}}
}

// Line is shared by the services Lock and Election.
type Line struct{ line line }

// Stop ends all that wait, and new ones at once, with the error that lets clients go on at another member.
func (l *Line) Stop() { l.line.stop() }

// place is one in the line.
type place struct {
	name, key []byte
	lease     int64
	rev       int64 // the create revision of key
	created   bool  // by this request
	granted   bool  // the lease was
}

// during returns a context of a request that ends with the service, too.
func (l *line) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.end, func() { cancel(rpctypes.ErrGRPCStopped) })
	return ctx, func() { stop(); cancel(nil) }
}

// enter waits in the line of a name until the client is the first, and returns its place with the header of the moment. After
// an error the place is given up, if this request has made it.
func (l *line) enter(ctx context.Context, name, value []byte, lease int64) (_ *place, _ *etcdserverpb.ResponseHeader, err error) {
	p := &place{name: name, lease: lease}
	if lease == 0 {
		r, err := l.leases.LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: sessionTTL})
		if err != nil {
			return nil, nil, err
		}
		p.lease, p.granted = r.GetID(), true
	}
	p.key = fmt.Appendf(bytes.Clone(name), "/%x", p.lease)
	defer func() {
		if err != nil {
			l.leave(ctx, p)
		}
	}()
	if err := l.again(ctx, func() error { return l.join(ctx, p, value) }); err != nil {
		return nil, nil, err
	}
	kept, done := context.WithCancel(ctx)
	defer done()
	go l.keep(kept, p.lease)
	for {
		var h *etcdserverpb.ResponseHeader
		var before []byte
		err := l.again(ctx, func() (err error) {
			h, before, err = l.look(ctx, p)
			return err
		})
		if err != nil || before == nil {
			return p, h, err
		}
		if err := l.await(ctx, h.GetRevision()+1, before, p.key); err != nil {
			return nil, nil, err
		}
	}
}

// join creates the key of a place, or finds it.
func (l *line) join(ctx context.Context, p *place, value []byte) error {
	put := &etcdserverpb.PutRequest{Key: p.key, Value: value, Lease: p.lease}
	r, err := l.txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{created(p.key, 0)},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: put}}},
		Failure: []*etcdserverpb.RequestOp{rangeOp(&etcdserverpb.RangeRequest{Key: p.key})},
	})
	if err != nil {
		return err
	}
	if r.GetSucceeded() {
		p.rev, p.created = r.GetHeader().GetRevision(), true
		return nil
	}
	old := firstKV(r)
	p.rev = old.GetCreateRevision()
	if value == nil || bytes.Equal(old.GetValue(), value) {
		return nil
	}
	ok, _, err := l.ifAt(ctx, p.key, p.rev, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: put}})
	if err == nil && !ok {
		return errSessionLost
	}
	return err
}

// look reads the key right before the place; nil when there is none.
func (l *line) look(ctx context.Context, p *place) (*etcdserverpb.ResponseHeader, []byte, error) {
	prefix, end := lineRange(p.name)
	ok, r, err := l.ifAt(ctx, p.key, p.rev, rangeOp(&etcdserverpb.RangeRequest{
		Key: prefix, RangeEnd: end, MaxCreateRevision: p.rev - 1, KeysOnly: true, Limit: 1,
		SortTarget: etcdserverpb.RangeRequest_CREATE, SortOrder: etcdserverpb.RangeRequest_DESCEND,
	}))
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, errSessionLost
	}
	return r.GetHeader(), firstKV(r).GetKey(), nil
}

// await waits until one of two keys is deleted, from a revision on, or may have been.
func (l *line) await(ctx context.Context, rev int64, keys ...[]byte) error {
	s := l.hub.NewStream()
	defer s.Close()
	for _, k := range keys {
		s.Create(watch.Spec{Key: k, Start: rev, NoPut: true})
	}
	for {
		m, err := s.Next(ctx)
		if err != nil {
			return ended(ctx, err)
		}
		if len(m.Events) > 0 || m.Canceled {
			return nil
		}
	}
}

// keep keeps a lease alive while its owner waits. That it ends is seen by the loss of the key.
func (l *line) keep(ctx context.Context, lease int64) {
	for {
		wait := lineRetry
		if ctx, err := l.leases.permit(ctx, lease, LeaseKeysWrite); err == nil {
			if ttl, err := l.leases.member.LeaseRenew(ctx, lease); err == nil {
				wait = max(time.Duration(ttl)*time.Second/3, lineRetry)
			}
		}
		if !l.pause(ctx, wait) {
			return
		}
	}
}

// leave gives up what a request has made, for a client that may be gone. Where that fails, the end of the lease does it.
func (l *line) leave(ctx context.Context, p *place) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	switch {
	case p.granted:
		_, _ = l.leases.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: p.lease})
	case p.created:
		_, _, _ = l.ifAt(ctx, p.key, p.rev, deleteOp(p.key))
	}
}

// again makes a request until it meets a leader, unless the client wants to know when there is none. Requests here may be
// made twice.
func (l *line) again(ctx context.Context, request func() error) error {
	for {
		err := request()
		if status.Code(toStatus(err)) != codes.Unavailable || demandsLeader(ctx) || ctx.Err() != nil {
			return err
		}
		if !l.pause(ctx, lineRetry) {
			return ended(ctx, ctx.Err())
		}
	}
}

// pause tells whether the context still lasts after a time.
func (l *line) pause(ctx context.Context, d time.Duration) bool {
	t := l.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// ended returns why a request ended: the end of the service, or err.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, rpctypes.ErrGRPCStopped) {
		return cause
	}
	if errors.Is(err, watch.ErrClosed) {
		return rpctypes.ErrGRPCStopped
	}
	return err
}

// ifAt does an operation if a key was created at a revision, and tells whether it was.
func (l *line) ifAt(ctx context.Context, key []byte, rev int64, op *etcdserverpb.RequestOp) (bool, *etcdserverpb.TxnResponse, error) {
	r, err := l.txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{created(key, rev)}, Success: []*etcdserverpb.RequestOp{op},
	})
	return r.GetSucceeded(), r, err
}

func (l *line) txn(ctx context.Context, m *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	r := new(etcdserverpb.TxnResponse)
	return r, l.call(ctx, MethodTxn, m, r, l.kv.Txn)
}

// call makes a request of the KV service as the client of ctx.
func (l *line) call(ctx context.Context, m Method, in, out proto.Message, f func(context.Context, *Request) (*Response, error)) error {
	raw, err := proto.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode a %s request: %w", m, err)
	}
	req, err := NewRequest(m, raw)
	if err != nil {
		return fmt.Errorf("read a %s request: %w", m, err)
	}
	resp, err := f(ctx, req)
	if err != nil {
		return err
	}
	chunks := resp.take()
	defer chunks.Free()
	b := chunks.MaterializeToBuffer(requestPool)
	defer b.Free()
	if err := proto.Unmarshal(b.ReadOnlyData(), out); err != nil {
		return fmt.Errorf("decode a %s response: %w", m, err)
	}
	return nil
}

// lineRange is the range of the keys of a line.
func lineRange(name []byte) (key, end []byte) {
	key = append(bytes.Clone(name), '/')
	end = bytes.Clone(key)
	end[len(end)-1]++
	return key, end
}

// created compares the create revision of a key; that of a missing one is 0.
func created(key []byte, rev int64) *etcdserverpb.Compare {
	return &etcdserverpb.Compare{Key: key, Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_EQUAL,
		TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: rev}}
}

func rangeOp(r *etcdserverpb.RangeRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: r}}
}

func deleteOp(key []byte) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: key}}}
}

// firstKV returns the first key-value of the range in a response, nil when it has none.
func firstKV(r *etcdserverpb.TxnResponse) *mvccpb.KeyValue {
	for _, op := range r.GetResponses() {
		if kvs := op.GetResponseRange().GetKvs(); len(kvs) > 0 {
			return kvs[0]
		}
	}
	return nil
}

// lineStatus returns the error that a client of a line is told. As in etcd, what is wrong with a request has no code but Unknown;
// what may pass by itself keeps its own.
func lineStatus(ctx context.Context, err error) error {
	s := status.Convert(toStatus(ended(ctx, err)))
	switch s.Code() {
	case codes.OK, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return s.Err()
	default:
		return status.Error(codes.Unknown, s.Message())
	}
}
