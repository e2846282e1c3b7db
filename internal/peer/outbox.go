package peer

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// outboxMax and outboxBytesMax bound what waits for one stream. raft bounds appends under way by their number, not
	// by their bytes.
	outboxMax      = 4096
	outboxBytesMax = 64 << 20
	// postsMax and postBytesMax bound what waits to be posted.
	postsMax     = 64
	postBytesMax = 16 << 20
	// messageOverhead is what a message counts besides its entries' data.
	messageOverhead = 64
)

// outbox is what waits for one way to a remote. Somebody takes from it while it is open.
type outbox struct {
	max, bytesMax int

	mu    sync.Mutex
	taker *taker // nil: nobody takes, and nothing is put
	queue []*raftpb.Message
	bytes int
	wake  chan struct{} // capacity 1
}

// taker is who writes messages to the network. It is to end when gone is closed.
type taker struct{ gone chan struct{} }

func newOutbox(max, bytes int) *outbox {
	return &outbox{max: max, bytesMax: bytes, wake: make(chan struct{}, 1)}
}

// open makes the caller the one who takes; who was it before is told to go, and what waited for it is lost.
func (b *outbox) open() *taker {
	t := &taker{gone: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.emptyLocked()
	if b.taker != nil {
		close(b.taker.gone)
	}
	b.taker = t
	return t
}

// close ends t, if it is still the one who takes.
func (b *outbox) close(t *taker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taker == t {
		b.taker = nil
		b.emptyLocked()
	}
}

func (b *outbox) emptyLocked() { b.queue, b.bytes = nil, 0 }

// put queues a message. open says whether anybody takes, taken whether there was room; an empty queue takes one of any size.
func (b *outbox) put(m *raftpb.Message) (open, taken bool) {
	size := messageOverhead
	for _, e := range m.GetEntries() {
		size += len(e.GetData()) + messageOverhead
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taker == nil {
		return false, false
	}
	if len(b.queue) > 0 && (len(b.queue) >= b.max || b.bytes+size > b.bytesMax) {
		return true, false
	}
	b.queue = append(b.queue, m)
	b.bytes += size
	b.signalLocked()
	return true, true
}

func (b *outbox) signalLocked() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns all that waits for t.
func (b *outbox) take(t *taker) []*raftpb.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taker != t {
		b.signalLocked() // it was meant for the one who takes now
		return nil
	}
	queue := b.queue
	b.emptyLocked()
	return queue
}

// takeOne returns one message that waits, nil when none does. Several may call it, who share one taker.
func (b *outbox) takeOne() *raftpb.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	m := b.queue[0]
	b.queue = b.queue[1:]
	if len(b.queue) == 0 {
		b.bytes = 0
		return m
	}
	for _, e := range m.GetEntries() {
		b.bytes -= len(e.GetData()) + messageOverhead
	}
	b.bytes -= messageOverhead
	b.signalLocked() // for the next of those who call it
	return m
}
