package rpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// keepAlivesMax is how many renewals of one stream are under way at a time. A client keeps all its leases alive on one
// stream; together they need one confirmation of leadership, one after the other they would need one each.
const keepAlivesMax = 128

// keepAlive is a renewal under way.
type keepAlive struct {
	id      int64
	refusal error // the client may not renew it; there is no renewal then
	renewal member.Renewal

	done chan struct{} // of a long one, closed after ttl and err are set
	ttl  int64
	err  error
}

// keepAlives are the renewals of one stream in the order of the requests: one goroutine receives them, another one answers them.
type keepAlives struct {
	s      *Lease
	stream etcdserverpb.Lease_LeaseKeepAliveServer
	ctx    context.Context
	fail   context.CancelCauseFunc // ends ctx

	mu      sync.Mutex
	changed sync.Cond // of what follows
	pending []*keepAlive
	waiting bool // whoever answers does so for the first one to be ready
	adding  bool // a request is looked at
	ended   bool // the client sends no more
	closed  bool // nobody answers any more

	long sync.WaitGroup
}

func newKeepAlives(s *Lease, stream etcdserverpb.Lease_LeaseKeepAliveServer) *keepAlives {
	q := &keepAlives{s: s, stream: stream}
	q.ctx, q.fail = context.WithCancelCause(stream.Context())
	q.changed.L = &q.mu
	return q
}

// receive begins renewals until the client sends no more or nobody answers any more.
func (q *keepAlives) receive() {
	for {
		r, err := q.stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			q.end()
			return
		case err != nil:
			q.fail(err)
			return
		case !q.add(r.GetID()):
			return
		}
	}
}

func (q *keepAlives) send(id, ttl int64) error {
	return q.stream.Send(&etcdserverpb.LeaseKeepAliveResponse{Header: q.s.header(0), ID: id, TTL: ttl})
}

// add begins a renewal once there is room. It reports false when nobody answers any more.
func (q *keepAlives) add(id int64) bool {
	q.mu.Lock()
	for len(q.pending) == keepAlivesMax && !q.closed {
		q.changed.Wait()
	}
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.adding = true
	alone := len(q.pending) == 0 // and so until it is added
	q.mu.Unlock()
	k := q.begin(id)
	answered := alone && q.answerAtOnce(k)
	told := *k // once it is pending, it belongs to whoever answers
	q.mu.Lock()
	q.adding = false
	if !answered {
		q.pending = append(q.pending, k)
	}
	if q.closed {
		q.changed.Broadcast()
	}
	q.mu.Unlock()
	if !answered {
		told.tell(q)
	}
	return true
}

// answerAtOnce answers, in place of whoever does otherwise, a renewal that needs no wait. REQUIRES: no other is pending.
func (q *keepAlives) answerAtOnce(k *keepAlive) bool {
	if !k.ready() || k.refusal != nil {
		return false
	}
	if done, _ := k.renewal.Decided(); !done {
		return false
	}
	ttl, err := q.outcome(k)
	if err != nil {
		return false
	}
	if err := q.send(k.id, ttl); err != nil {
		q.fail(err)
	}
	return true
}

// tell wakes whoever answers, once the renewal may be answered.
func (k *keepAlive) tell(q *keepAlives) {
	if k.refusal != nil {
		q.Wake()
		return
	}
	k.renewal.Tell(q)
}

func (k *keepAlive) ready() bool { return k.refusal != nil || k.renewal.Ready() }

func (q *keepAlives) begin(id int64) *keepAlive {
	k := &keepAlive{id: id}
	if _, k.refusal = q.s.permit(q.ctx, id, LeaseKeysWrite); k.refusal == nil {
		k.renewal = q.s.member.BeginLeaseRenew(id)
	}
	return k
}

func (q *keepAlives) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.Wake()
}

// Wake implements consensus.Waker, for whoever answers.
func (q *keepAlives) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting && q.dueLocked() {
		q.waiting = false
		q.changed.Broadcast()
	}
}

// dueLocked says whether there is something to do for whoever answers.
func (q *keepAlives) dueLocked() bool {
	if len(q.pending) == 0 {
		return q.ended || q.ctx.Err() != nil
	}
	return q.pending[0].ready() || q.ctx.Err() != nil
}

// first waits until the renewal to be answered next may have an outcome. There is none when all are answered and the client sends no more, or when the
// context has ended.
func (q *keepAlives) first() *keepAlive {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.dueLocked() {
		q.waiting = true
		q.changed.Wait()
	}
	q.waiting = false
	if len(q.pending) == 0 {
		return nil
	}
	return q.pending[0]
}

// pop forgets the first one, which is answered.
func (q *keepAlives) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == keepAlivesMax {
		q.changed.Broadcast()
	}
	q.pending = slices.Delete(q.pending, 0, 1)
}

// outcome waits for that of the first renewal. A lease that is not there has no time to live.
func (q *keepAlives) outcome(k *keepAlive) (ttl int64, err error) {
	if k.refusal != nil {
		return 0, k.refusal
	}
	if k.done == nil {
		_ = k.renewal.Wait(q.ctx) // what it returns comes again below
		if _, long := k.renewal.Decided(); long {
			q.prolong()
		}
	}
	if k.done == nil {
		ttl, err = k.renewal.Finish(q.ctx)
	} else {
		select {
		case <-k.done:
			ttl, err = k.ttl, k.err
		case <-q.ctx.Done():
			return 0, q.ctx.Err()
		}
	}
	if errors.Is(err, lease.ErrNotFound) {
		return 0, nil
	}
	return ttl, err
}

// prolong goes on with all renewals that are known to be long, beside each other.
func (q *keepAlives) prolong() {
	q.mu.Lock()
	pending := slices.Clone(q.pending)
	q.mu.Unlock() // none of them is anybody else's business, and the member has locks of its own
	for _, k := range pending {
		if k.refusal != nil || k.done != nil {
			continue
		}
		switch done, long := k.renewal.Decided(); {
		case long:
			k.done = make(chan struct{})
			q.long.Go(func() {
				defer close(k.done)
				k.ttl, k.err = k.renewal.Finish(q.ctx)
			})
		case !done:
			k.tell(q) // it may wait for something else than before it was asked
		}
	}
}

// close ends the renewals. REQUIRES: the context has ended. Nothing is asked of the member after it.
func (q *keepAlives) close() {
	q.mu.Lock()
	q.closed = true
	q.changed.Broadcast()
	for q.adding {
		q.changed.Wait()
	}
	q.mu.Unlock()
	q.long.Wait()
}
