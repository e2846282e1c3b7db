package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// ownSeconds is how long a proxy that is gone without a word owns its keys. It is what etcd's proxy asks for.
	ownSeconds = 60
	// ownRetry is the pause before something that failed is tried again, and ownTimeout bounds each request of the owner's own.
	ownRetry, ownTimeout = time.Second, 5 * time.Second
	// ownBackoff is how long a key that was given up is not acquired again.
	ownBackoff = 2 * time.Second
	// titlesMax bounds the titles that are to be given back: above it no key is acquired.
	titlesMax = 10000
	// revokeValue in a title asks its owner to give the key up.
	revokeValue = "REVOKE"
)

// owner answers linearizable reads of single keys that the proxy owns. The protocol is that of etcd's client library: a key is
// owned by whoever has written its title, the key below a prefix that all proxies share, with a lease; and whoever writes a key
// demands, in one transaction with the write, that nobody else has its title.
//
// Invariants:
//
//  1. An answer is given only while the lease cannot have ended: its time is counted from before its renewal was sent, with a margin.
//  2. A key whose write is under way, or whose write has had no answer, is not answered for.
//  3. The watch of the titles tells what to give up; nothing that is answered depends on it being there in time.
type owner struct {
	up     grpc.ClientConnInterface
	space  namespace // of the keys of clients
	titles namespace // of their titles
	ttl    int64     // seconds
	newest *order    // the highest revision that was answered to anybody
	clock  clock.Clock
	log    *slog.Logger

	wake chan struct{} // holds one token while titles are to be given back

	mu      sync.Mutex // guards what follows; never held while something is sent
	term    *term      // nil while nothing may be owned
	owned   estate
	left    map[string]time.Time // when keys were given up
	back    []title              // to be given back
	waiting map[string]map[chan struct{}]struct{}
}

// title is one that this proxy has, or had.
type title struct {
	key      string // upstream, that of the title itself
	revision int64  // at which it was created
}

// term is the life of one lease.
type term struct {
	lease   int64
	renewed time.Time     // when the newest renewal that was answered was sent
	life    time.Duration // for which that is good
}

// lasts tells whether the lease cannot have ended. The second clock is for machines that were suspended.
func (t *term) lasts(now time.Time) bool {
	return t != nil && now.Sub(t.renewed) < t.life && now.Round(0).Sub(t.renewed.Round(0)) < t.life
}

func (t *term) renew(sent time.Time, ttl int64) {
	life := time.Duration(ttl) * time.Second
	t.renewed, t.life = sent, life-life/10
}

func newOwner(up grpc.ClientConnInterface, space namespace, prefix string, ttl int64, newest *order, c clock.Clock, log *slog.Logger) *owner {
	return &owner{up: up, space: space, titles: space + namespace(prefix), ttl: ttl, newest: newest, clock: c, log: log,
		wake: make(chan struct{}, 1), owned: newEstate(), left: map[string]time.Time{}, waiting: map[string]map[chan struct{}]struct{}{}}
}

// run acquires the right to own, again and again, until ctx ends. Meanwhile, and without it, requests go upstream.
func (o *owner) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := o.serve(ctx)
		if ctx.Err() == nil {
			o.log.Warn("the proxy owns no keys at the moment", "error", err)
			rest(ctx, o.clock, ownRetry)
		}
	}
}

// serve is one term.
func (o *owner) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(identity{leader: "true"}.outgoing(ctx))
	defer cancel(nil)
	events, next, err := o.open(ctx, 0)
	if err != nil {
		return fmt.Errorf("watch the titles: %w", err)
	}
	t, err := o.grant(ctx)
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	o.mu.Lock()
	o.term = t
	o.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() { cancel(o.follow(ctx, events, next)) })
	running.Go(func() { o.giveBack(ctx) })
	err = o.keep(ctx, t)
	cancel(err)
	o.end(context.WithoutCancel(ctx), t)
	running.Wait()
	return errors.Join(err, context.Cause(ctx))
}

func (o *owner) grant(ctx context.Context) (*term, error) {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	t := &term{}
	sent := o.clock.Now()
	granted, err := etcdserverpb.NewLeaseClient(o.up).LeaseGrant(ctx, &etcdserverpb.LeaseGrantRequest{TTL: o.ttl})
	if err != nil {
		return nil, err
	}
	t.lease = granted.ID
	t.renew(sent, granted.TTL)
	return t, nil
}

// keep renews the lease until it ends, or may have ended, or nobody may read without a token any more.
func (o *owner) keep(ctx context.Context, t *term) error {
	for {
		rest(ctx, o.clock, time.Duration(o.ttl)*time.Second/3)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		sent := o.clock.Now()
		ttl, err := renew(ctx, o.up, t.lease)
		if err == nil && ttl <= 0 {
			return fmt.Errorf("the lease %x has ended", t.lease)
		}
		if err == nil {
			err = o.openToAll(ctx)
		}
		if code := status.Code(err); code == codes.PermissionDenied || code == codes.InvalidArgument || code == codes.Unauthenticated {
			return fmt.Errorf("authentication is enabled: %w", err)
		}
		o.mu.Lock()
		if err == nil {
			t.renew(sent, ttl)
		}
		lasts := t.lasts(o.clock.Now())
		o.mu.Unlock()
		if !lasts {
			return fmt.Errorf("the lease %x was not renewed in time: %w", t.lease, err)
		}
	}
}

// openToAll fails if requests without a token are not answered.
func (o *owner) openToAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	_, err := etcdserverpb.NewKVClient(o.up).Range(ctx, &etcdserverpb.RangeRequest{
		Key: []byte(o.titles), RangeEnd: o.titles.after(), Limit: 1, KeysOnly: true})
	return err
}

// end gives everything up at once, and then says so upstream.
func (o *owner) end(ctx context.Context, t *term) {
	o.mu.Lock()
	o.term, o.back = nil, nil
	o.owned.clear()
	o.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	if _, err := etcdserverpb.NewLeaseClient(o.up).LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: t.lease}); err != nil {
		o.log.Warn("the titles of this proxy stay until their lease ends", "error", err)
	}
}

// open watches the titles from a revision on, 0 for what is new, which is returned.
func (o *owner) open(ctx context.Context, from int64) (etcdserverpb.Watch_WatchClient, int64, error) {
	stream, err := etcdserverpb.NewWatchClient(o.up).Watch(ctx)
	if err != nil {
		return nil, 0, err
	}
	err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{
		Key: []byte(o.titles), RangeEnd: o.titles.after(), StartRevision: from}}})
	if err != nil {
		return nil, 0, err
	}
	r, err := stream.Recv()
	if err != nil {
		return nil, 0, err
	}
	if r.Canceled {
		return nil, 0, status.Error(codes.PermissionDenied, r.CancelReason)
	}
	if from == 0 {
		from = r.GetHeader().GetRevision() + 1
	}
	return stream, from, nil
}

// follow takes the events of titles, from one member or another. It returns when ctx ends, and when events were missed.
func (o *owner) follow(ctx context.Context, stream etcdserverpb.Watch_WatchClient, next int64) error {
	for {
		r, err := stream.Recv()
		for err != nil {
			rest(ctx, o.clock, ownRetry)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if stream, _, err = o.open(ctx, next); err == nil {
				r, err = stream.Recv()
			}
		}
		if r.Canceled {
			return fmt.Errorf("the watch of the titles has ended: %s (compacted at %d)", r.CancelReason, r.CompactRevision)
		}
		for _, e := range r.Events {
			o.changed(e)
			next = e.Kv.ModRevision // again after a break: a revision may come in parts
		}
	}
}

// giveBack deletes the titles of keys that were given up.
func (o *owner) giveBack(ctx context.Context) {
	for {
		select {
		case <-o.wake:
		case <-ctx.Done():
			return
		}
		o.mu.Lock()
		todo := o.back
		o.back = nil
		o.mu.Unlock()
		for n, t := range todo {
			if err := o.release(ctx, t); err == nil {
				continue
			}
			rest(ctx, o.clock, ownRetry)
			o.mu.Lock()
			o.back = append(o.back, todo[n:]...)
			o.mu.Unlock()
			poke(o.wake)
			break
		}
	}
}

// release deletes a title, if it is still the one that was written then.
func (o *owner) release(ctx context.Context, t title) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	_, err := etcdserverpb.NewKVClient(o.up).Txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{createdAt([]byte(t.key), nil, t.revision)},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
			RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(t.key)}}}}})
	return err
}

// rest waits for d, or until ctx ends.
func rest(ctx context.Context, c clock.Clock, d time.Duration) {
	t := c.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C():
	case <-ctx.Done():
	}
}
