package peer

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

const (
	// outboxMax and outboxBytesMax bound what waits for one stream. The leader bounds appends under way below that
	// (consensus.inflightBytesMax); members of etcd do it by their number alone.
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
type taker struct {
	gone   chan struct{}
	writer *streamWriter // nil for who posts
}

func newOutbox(max, bytes int) *outbox {
	return &outbox{max: max, bytesMax: bytes, wake: make(chan struct{}, 1)}
}

// open makes the caller the one who takes; who was it before is told to go, and what waited for it is lost.
func (b *outbox) open(w *streamWriter) *taker {
	t := &taker{gone: make(chan struct{}), writer: w}
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

// put queues a message, or writes one that comes alone where that does not block. open says whether anybody takes, taken whether
// there was room; an empty queue takes one of any size.
func (b *outbox) put(m *raftpb.Message, alone bool) (open, taken bool) {
	open, taken, w := b.queueOrWriter(m, alone)
	if w != nil && w.writeDirect(m) {
		b.signal()
	}
	return open, taken
}

// queueOrWriter queues a message or, where it is to be written at once, returns the writer, whose mu is held.
func (b *outbox) queueOrWriter(m *raftpb.Message, alone bool) (open, taken bool, _ *streamWriter) {
	size := messageOverhead
	for _, e := range m.GetEntries() {
		size += len(e.GetData()) + messageOverhead
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taker == nil {
		return false, false, nil
	}
	if w := b.taker.writer; alone && len(b.queue) == 0 && w != nil && w.direct(m, size) {
		return true, true, w
	}
	if len(b.queue) > 0 && (len(b.queue) >= b.max || b.bytes+size > b.bytesMax) {
		return true, false, nil
	}
	b.queue = append(b.queue, m)
	b.bytes += size
	b.signal()
	return true, true, nil
}

func (b *outbox) signal() {
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
		b.signal() // it was meant for the one who takes now
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
	b.signal() // for the next of those who call it
	return m
}
