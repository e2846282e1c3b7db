package member

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// waiterShards spreads the waiters over locks; a power of two.
const waiterShards = 16

// waiter is one proposal that waits. out has capacity 1 and gets at most one
// result between register and release.
type waiter struct {
	id       uint64
	deadline time.Time          // none for one with then
	then     func(apply.Result) // called with the result, in the goroutine that has it, instead of out
	gone     atomic.Bool
	at       stages // before there is something in out; zero for one that was not applied
	out      chan apply.Result
}

// stages are when a proposal was committed and when what applied it began.
type stages struct{ committed, began time.Time }

// waiters finds the proposal that an applied entry belongs to.
type waiters struct {
	ended  atomic.Bool // see end
	shards [waiterShards]struct {
		mu sync.Mutex
		m  map[uint64]*waiter
	}
}

func newWaiters() *waiters {
	w := &waiters{}
	for i := range w.shards {
		w.shards[i].m = make(map[uint64]*waiter)
	}
	return w
}

// outs are channels of waiters whose result was taken, so that nobody sends on them any more.
var outs = sync.Pool{New: func() any { return make(chan apply.Result, 1) }}

// register makes id known; its result will come on x's channel.
func (w *waiters) register(x *waiter, id uint64, deadline time.Time) {
	x.id, x.deadline, x.out = id, deadline, outs.Get().(chan apply.Result)
	w.put(x)
	if w.ended.Load() {
		w.deliver(id, apply.Result{Err: ErrStopped})
	}
}

// registerFor makes id known until its result, with which then is called, or until release: it never expires. then must not
// block.
func (w *waiters) registerFor(id uint64, then func(apply.Result)) *waiter {
	return w.put(&waiter{id: id, then: then})
}

func (w *waiters) put(x *waiter) *waiter {
	s := &w.shards[x.id%waiterShards]
	s.mu.Lock()
	s.m[x.id] = x
	s.mu.Unlock()
	return x
}

// has says whether anyone waits for id, so that a result is worth encoding.
func (w *waiters) has(id uint64) bool {
	s := &w.shards[id%waiterShards]
	s.mu.Lock()
	_, ok := s.m[id]
	s.mu.Unlock()
	return ok
}

// deliver gives id's waiter its result, if there still is one.
func (w *waiters) deliver(id uint64, r apply.Result) { w.deliverAt(id, r, stages{}) }

// deliverAt is deliver with the stages before the result.
func (w *waiters) deliverAt(id uint64, r apply.Result, at stages) {
	s := &w.shards[id%waiterShards]
	s.mu.Lock()
	x, ok := s.m[id]
	delete(s.m, id)
	s.mu.Unlock()
	switch {
	case !ok:
	case x.then != nil:
		x.then(r)
	default:
		x.at = at
		x.out <- r
	}
}

// count returns how many wait.
func (w *waiters) count() (n int) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}

// release forgets a waiter that gave up.
func (w *waiters) release(x *waiter) {
	x.gone.Store(true)
	s := &w.shards[x.id%waiterShards]
	s.mu.Lock()
	delete(s.m, x.id)
	s.mu.Unlock()
}

// end gives all who wait, and those that come later, ErrStopped: one goroutine looks for the end of the member, not each of them. Those
// with then are left alone.
func (w *waiters) end() {
	w.ended.Store(true)
	w.drop(ErrStopped, func(*waiter) bool { return true })
}

// expire ends all waiters whose deadline is at or before now with err. One sweep
// now and then costs less than a timer for each request.
func (w *waiters) expire(now time.Time, err error) {
	w.drop(err, func(x *waiter) bool { return !x.deadline.After(now) })
}

// drop ends the waiters that which names with err.
func (w *waiters) drop(err error, which func(*waiter) bool) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for id, x := range s.m {
			if x.then == nil && which(x) {
				delete(s.m, id)
				x.gone.Store(true)
				x.out <- apply.Result{Err: err}
			}
		}
		s.mu.Unlock()
	}
}
