package proxy

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// renewalsMax bounds the renewals of one client that wait for their answers; further ones are not read until then.
const renewalsMax = 1000

// leases renews leases for all clients of one identity on one stream upstream.
type leases struct {
	upstream etcdserverpb.LeaseClient
	ctx      context.Context // ends with the proxy
	running  sync.WaitGroup

	mu       sync.Mutex
	renewers map[identity]*renewer
}

func newLeases(ctx context.Context, upstream etcdserverpb.LeaseClient) *leases {
	return &leases{upstream: upstream, ctx: ctx, renewers: map[identity]*renewer{}}
}

// renewer is a stream of renewals upstream. leases.mu guards its fields.
//
// At most one renewal of a lease is on its way at a time. Those that are asked for meanwhile become one, which is sent
// afterwards: so each answer is of a renewal that was sent after it was asked for.
type renewer struct {
	all     *leases
	users   int
	cancel  context.CancelFunc
	wake    chan struct{} // holds one token while something may be sent
	waiting map[int64]*renewal
	queue   []*renewal // waiting, in the order of asking
	sent    []*renewal // in the order of sending, which is that of the answers
	flying  map[int64]bool
	failed  error
}

// renewal is one request upstream, for all who asked for it. Its outcome is set before done is closed.
type renewal struct {
	id     int64
	done   chan struct{}
	answer *etcdserverpb.LeaseKeepAliveResponse
	err    error
}

func (r *renewal) end(answer *etcdserverpb.LeaseKeepAliveResponse, err error) {
	r.answer, r.err = answer, err
	close(r.done)
}

// keepAlive serves a client's stream. Answers come in the order of the requests.
func (l *leases) keepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	ctx := stream.Context()
	r := l.join(identityOf(ctx))
	defer l.leave(r)
	asked := make(chan *renewal, renewalsMax)
	var failure error // set before asked is closed
	go func() {
		defer close(asked)
		for {
			q, err := stream.Recv()
			if err != nil {
				failure = err
				return
			}
			select {
			case asked <- l.ask(r, q.ID):
			case <-ctx.Done():
				failure = ctx.Err()
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-l.ctx.Done():
			return status.Error(codes.Unavailable, "the proxy is stopping")
		case one, ok := <-asked:
			if !ok && errors.Is(failure, io.EOF) {
				return nil
			}
			if !ok {
				return failure
			}
			if err := l.await(ctx, stream, one); err != nil {
				return err
			}
		}
	}
}

// await passes the answer to a renewal on.
func (l *leases) await(ctx context.Context, stream etcdserverpb.Lease_LeaseKeepAliveServer, one *renewal) error {
	select {
	case <-one.done:
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-l.ctx.Done():
		return status.Error(codes.Unavailable, "the proxy is stopping")
	}
	if one.err != nil {
		return one.err
	}
	return stream.Send(one.answer)
}

// join returns the renewer of an identity, which leave gives back.
func (l *leases) join(who identity) *renewer {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.renewers[who]
	if r == nil {
		ctx, cancel := context.WithCancel(who.outgoing(l.ctx))
		r = &renewer{all: l, cancel: cancel, wake: make(chan struct{}, 1), waiting: map[int64]*renewal{}, flying: map[int64]bool{}}
		l.renewers[who] = r
		l.running.Go(func() {
			defer cancel()
			err := r.run(ctx)
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.renewers[who] == r {
				delete(l.renewers, who)
			}
			r.fail(err)
		})
	}
	r.users++
	return r
}

func (l *leases) leave(r *renewer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.users--; r.users > 0 {
		return
	}
	for who, have := range l.renewers {
		if have == r {
			delete(l.renewers, who)
		}
	}
	r.cancel()
}

// ask returns a renewal of the lease that is yet to be sent.
func (l *leases) ask(r *renewer, id int64) *renewal {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := r.waiting[id]; one != nil {
		return one
	}
	one := &renewal{id: id, done: make(chan struct{})}
	if r.failed != nil {
		one.end(nil, r.failed)
		return one
	}
	r.waiting[id] = one
	r.queue = append(r.queue, one)
	poke(r.wake)
	return one
}

func (r *renewer) run(ctx context.Context) error {
	stream, err := r.all.upstream.LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	r.all.running.Go(func() { r.send(ctx, stream) })
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the member has ended the stream of renewals")
		}
		if err != nil {
			return err
		}
		if !r.answered(answer) {
			return status.Errorf(codes.Internal, "the member has answered a renewal of lease %x out of order", answer.ID)
		}
	}
}

// answered ends the oldest renewal that was sent, which the answer must be of.
func (r *renewer) answered(answer *etcdserverpb.LeaseKeepAliveResponse) bool {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	if len(r.sent) == 0 || r.sent[0].id != answer.ID {
		return false
	}
	one := r.sent[0]
	r.sent = r.sent[1:]
	delete(r.flying, one.id)
	one.end(answer, nil)
	poke(r.wake)
	return true
}

func (r *renewer) send(ctx context.Context, stream etcdserverpb.Lease_LeaseKeepAliveClient) {
	for {
		select {
		case <-r.wake:
		case <-ctx.Done():
			return
		}
		for _, one := range r.due() {
			if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: one.id}); err != nil {
				return // the reason comes with what is received
			}
		}
	}
}

// due takes the renewals that may be sent now, and counts them as sent.
func (r *renewer) due() []*renewal {
	r.all.mu.Lock()
	defer r.all.mu.Unlock()
	var now, later []*renewal
	for _, one := range r.queue {
		if r.flying[one.id] {
			later = append(later, one)
			continue
		}
		r.flying[one.id] = true
		delete(r.waiting, one.id)
		now = append(now, one)
	}
	r.queue = later
	r.sent = append(r.sent, now...)
	return now
}

// fail ends all renewals. REQUIRES: leases.mu is held.
func (r *renewer) fail(err error) {
	r.failed = err
	for _, one := range append(r.sent, r.queue...) {
		one.end(nil, err)
	}
	r.sent, r.queue, r.waiting = nil, nil, map[int64]*renewal{}
}
