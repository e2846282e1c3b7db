package h2

import (
	"sync"

	"google.golang.org/grpc/mem"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

const (
	// outMax is how many bytes wait for the flusher before messages have to queue.
	outMax = 64 << 10
	// controlMax is how many bytes may wait before the reader takes no more frames: only answers to what the client does come so far.
	controlMax = 512 << 10
	// queuedMax is how many bytes of messages may wait for a client that does not read what is written, before the reader takes no more frames.
	queuedMax = 32 << 20
	// outKept bounds the buffers that are kept for the next.
	outKept  = 128 << 10
	outBytes = 4 << 10
)

// output is what a connection has to write. It is guarded by the connection's mu.
type output struct {
	out      []byte // encoded, in the order of the wire
	box      *[]byte
	flushing bool // a goroutine is writing, and will write what is in out
	writing  bool // it is, at this moment
	table    table
	acks     int  // bytes of out that acknowledge pings
	held     bool // release will be called
	lent     lent
	scratch  []byte // of header blocks
	listMax  int64  // what the client takes of headers, in bytes as RFC 9113 counts them

	// Messages that found no room, of several streams in turns.
	first, final *stream
	queued       int64                // bytes
	window       int64                // what may be sent on all streams
	streamWindow int64                // what may be sent on a new one
	sentMin      int64                // the lowest stream.sent there was, so that settings need not look at all streams
	stalled      map[*stream]struct{} // have messages and no window
}

func (o *output) begin() {
	o.window, o.streamWindow, o.listMax = windowDefault, windowDefault, 1<<32-1
	o.stalled = make(map[*stream]struct{})
}

// outs are buffers of connections that have something to write.
var outs = sync.Pool{New: func() any {
	b := make([]byte, 0, outBytes)
	return &b
}}

// take returns out, which has a buffer then.
func (o *output) take() []byte {
	if o.out == nil {
		o.box = outs.Get().(*[]byte)
		o.out = (*o.box)[:0]
	}
	return o.out
}

// outgoing is one message that waits to be sent.
type outgoing struct {
	prefix [prefixBytes]byte
	gone   int             // bytes that were sent, of prefix and data
	data   mem.BufferSlice // what is left
	left   int             // bytes of prefix and data
	more   int             // bytes of data that are not made yet
}

// pending tells whether there is something that may be written. REQUIRES: mu is held.
func (c *conn) pending() bool { return len(c.out) > 0 || c.first != nil && c.output.window > 0 }

// kick makes somebody write what is in out or queued. REQUIRES: mu is held.
func (c *conn) kick() {
	if c.claim() {
		go c.flush()
	}
}

// claim tells whether the caller is to flush. REQUIRES: mu is held.
func (c *conn) claim() bool {
	if c.flushing || c.closed || !c.pending() {
		return false
	}
	c.flushing = true
	return true
}

// flush writes until nothing is left that may be written. REQUIRES: the caller has set flushing.
func (c *conn) flush() {
	c.mu.Lock()
	for !c.closed {
		c.pour()
		if len(c.out) == 0 {
			break
		}
		out, box := c.out, c.box
		c.out, c.box, c.acks = nil, nil, 0
		c.writing = true
		c.wake()
		c.mu.Unlock()
		err := c.write(out)
		invariant.Poison(out)
		if cap(out) <= outKept {
			*box = out[:0]
			outs.Put(box)
		}
		if err != nil {
			c.close()
		}
		c.mu.Lock()
		c.writing = false
		if err == nil && c.waiting > 0 {
			c.touch() // it reads, though we may not hear it at the moment
		}
	}
	c.flushing = false
	c.linger()
	c.wake()
	c.mu.Unlock()
}

// pour moves queued messages to out, a frame of each stream in turn, as far as there is room and the windows allow. REQUIRES: mu is held.
func (c *conn) pour() {
	for c.first != nil && len(c.out) < outMax && c.lent.bytes < lentMax && c.output.window > 0 {
		s := c.first
		c.unring(s)
		if !s.ready() {
			continue
		}
		room := min(c.streamWindow-s.sent, c.output.window, frameMax)
		if room <= 0 {
			c.stalled[s] = struct{}{} // until a window update or settings
			continue
		}
		c.frame(s, int(room))
		if s.ready() {
			c.ring(s)
		} else if s.over && len(s.queue) == 0 {
			c.end(s)
		}
	}
}

// ready tells whether a stream has something to send: the rest of its message may not be made yet. REQUIRES: c.mu is held.
func (s *stream) ready() bool { return len(s.queue) > 0 && s.queue[0].left > 0 }

// ring puts a stream with messages at the end of the line. REQUIRES: mu is held.
func (c *conn) ring(s *stream) {
	if s.ringed {
		return
	}
	delete(c.stalled, s)
	s.ringed, s.prev = true, c.final
	if c.final == nil {
		c.first = s
	} else {
		c.final.next = s
	}
	c.final = s
}

// unring takes a stream out of the line, if it is in it. REQUIRES: mu is held.
func (c *conn) unring(s *stream) {
	if !s.ringed {
		return
	}
	if s.prev == nil {
		c.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		c.final = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.ringed, s.prev, s.next = false, nil, nil
}

// frame moves one frame of a stream's first message to out. REQUIRES: mu is held.
func (c *conn) frame(s *stream, room int) {
	m := &s.queue[0]
	n := min(m.left, room)
	c.account(s, n)
	c.out = appendFrame(c.output.take(), n, kindData, 0, s.id)
	if m.gone < prefixBytes {
		part := m.prefix[m.gone:min(prefixBytes, m.gone+n)]
		c.out = append(c.out, part...)
		m.gone += len(part)
		m.left -= len(part)
		n -= len(part)
		c.queued -= int64(len(part))
		s.quota += len(part)
	}
	c.queued -= int64(n)
	s.quota += n
	m.left -= n
	for n > 0 {
		b := m.data[0]
		rest := b.ReadOnlyData()[m.gone-prefixBytes:]
		k := min(n, len(rest))
		if c.lends != nil && k >= lentMin {
			b.Ref()
			c.lent.add(len(c.out), b, rest[:k])
		} else {
			c.out = append(c.out, rest[:k]...)
		}
		n -= k
		m.gone += k
		if k == len(rest) {
			b.Free()
			m.data = m.data[1:]
			m.gone = prefixBytes
		}
	}
	if m.left == 0 && m.more == 0 {
		m.data.Free() // what is empty
		s.queue[0] = outgoing{}
		if s.queue = s.queue[1:]; len(s.queue) == 0 {
			s.queue = nil
		}
	}
	if s.quota > 0 {
		s.poke(s.mayQueue)
	}
}

// account notes that n bytes of a stream are sent. REQUIRES: mu is held.
func (c *conn) account(s *stream, n int) {
	s.sent += int64(n)
	c.output.window -= int64(n)
	c.pingsForget = true
}

// direct tells whether n bytes of messages may go to out at once. REQUIRES: mu is held.
func (c *conn) direct(s *stream, n int) bool {
	return n <= frameMax && c.first == nil && s.queue == nil && len(c.out) < outMax &&
		int64(n) <= c.output.window && int64(n) <= c.streamWindow-s.sent
}

// send sends a message of a stream, or queues it. It takes over data. REQUIRES: mu is held, and headers are sent.
func (c *conn) send(s *stream, flag byte, message mem.BufferSlice) {
	n := message.Len()
	if c.direct(s, prefixBytes+n) {
		c.out = c.open(s, flag, n)
		for _, b := range message {
			c.out = append(c.out, b.ReadOnlyData()...)
		}
		message.Free()
		return
	}
	c.enqueue(s, flag, message, 0)
}

// open returns out with the beginning of a frame that holds a message of n bytes, which the caller appends. REQUIRES: mu is held, and the message may be
// sent directly.
func (c *conn) open(s *stream, flag byte, n int) []byte {
	c.account(s, prefixBytes+n)
	out := appendFrame(c.output.take(), prefixBytes+n, kindData, 0, s.id)
	return append(out, flag, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// enqueue queues a message of which so many bytes more will be made. REQUIRES: mu is held, and headers are sent.
func (c *conn) enqueue(s *stream, flag byte, message mem.BufferSlice, more int) {
	there := message.Len()
	n := there + more
	m := outgoing{prefix: [prefixBytes]byte{flag, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, data: message,
		left: prefixBytes + there, more: more}
	s.quota -= m.left
	c.queued += int64(m.left)
	s.queue = append(s.queue, m)
	c.ring(s)
}

// drop frees the messages of a stream that will not be sent. The stream leaves the line: while the connection has no window the line does not move, and
// would hold it. REQUIRES: mu is held.
func (c *conn) drop(s *stream) {
	c.unring(s)
	for i := range s.queue {
		c.queued -= int64(s.queue[i].left)
		s.queue[i].data.Free()
	}
	s.queue = nil
	delete(c.stalled, s)
}

// stuffed tells whether the client has to read first. What waits for its windows alone does not stop us: they come in frames.
// REQUIRES: mu is held.
func (c *conn) stuffed() bool {
	return len(c.out) > controlMax || c.queued > queuedMax && (c.writing || len(c.out) >= outMax)
}
