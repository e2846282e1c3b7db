package proxy

import (
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

const (
	// queueBytesMax is how many bytes may wait for a client before its shared watches become private.
	queueBytesMax = 4 << 20
	// queueBytesLow is how few must wait before upstream is read, or read again, for private ones.
	queueBytesLow = 1 << 20
)

// queue is what waits to be sent to a client. Its lock is below hub.mu.
type queue struct {
	wake    chan struct{} // holds one token while something waits
	mu      sync.Mutex
	drained *sync.Cond
	waiting []*etcdserverpb.WatchResponse
	bytes   int
	closed  bool
}

func newQueue() *queue {
	q := &queue{wake: make(chan struct{}, 1)}
	q.drained = sync.NewCond(&q.mu)
	return q
}

// push adds a response. It never blocks; full and room say when not to.
func (q *queue) push(r *etcdserverpb.WatchResponse) {
	size := proto.Size(r)
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	q.bytes += size
	q.mu.Unlock()
	poke(q.wake)
}

// pop returns the oldest response, nil if there is none.
func (q *queue) pop() *etcdserverpb.WatchResponse {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil
	}
	r := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	q.bytes -= proto.Size(r)
	if q.bytes <= queueBytesLow {
		q.drained.Broadcast()
	}
	return r
}

// full tells whether a response is too much for a client that has not taken what waits.
func (q *queue) full(r *etcdserverpb.WatchResponse) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > 0 && q.bytes+proto.Size(r) > queueBytesMax
}

// low tells whether little waits.
func (q *queue) low() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes <= queueBytesLow
}

// room waits until little waits, or the queue is closed, and tells whether it had to.
func (q *queue) room() (waited bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.bytes > queueBytesLow && !q.closed {
		waited = true
		q.drained.Wait()
	}
	return waited
}

// close lets nobody wait any more.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.drained.Broadcast()
}
