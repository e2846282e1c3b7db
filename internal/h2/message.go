package h2

import (
	"encoding/binary"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

const (
	// prefixBytes is what stands before each message: whether it is compressed, and its length.
	prefixBytes = 5
	// smallBytes is how long a message may be to be collected in its stream.
	smallBytes = 64
	// unpooledBytes is up to where package mem does not pool.
	unpooledBytes = 1 << 10
	// trustBytes is what is set aside at least for a message that a client announces, and more only if more of it is there; then the
	// buffer grows by growth. A prefix of five bytes must not cost what it promises.
	trustBytes = 4 << 10
	growth     = 4
)

// message is one message as it was received.
type message struct {
	flag byte
	size int // bytes that it took of the window
	data mem.BufferSlice
}

// assembly is a message that is being received.
type assembly struct {
	prefix [prefixBytes]byte
	have   int     // bytes of prefix
	length int     // of the message, once prefix is whole
	buf    []byte  // what came of it
	box    *[]byte // the pool's handle of buf; nil when it is not pooled
	count  int     // messages that were received whole
	deaf   bool    // what comes is thrown away
}

// partial tells whether a message has begun.
func (a *assembly) partial() bool { return a.have > 0 }

// feed takes bytes of a stream's messages. REQUIRES: the caller is the reader.
func (c *conn) feed(s *stream, p []byte) {
	a := &s.in
	for len(p) > 0 && !a.deaf {
		if a.have < prefixBytes {
			n := copy(a.prefix[a.have:], p)
			a.have += n
			p = p[n:]
			if a.have < prefixBytes {
				return
			}
			if !c.announce(s, len(p)) {
				return
			}
		} else {
			n := min(len(p), a.room())
			a.buf = append(a.buf, p[:n]...)
			p = p[n:]
		}
		if len(a.buf) == a.length {
			c.complete(s)
		} else if a.room() == 0 {
			a.grow(c.srv.o.Buffers)
		}
	}
}

// room returns how much of the message fits into buf as it is.
func (a *assembly) room() int { return min(cap(a.buf), a.length) - len(a.buf) }

// announce prepares for the message whose prefix came, and of which so many bytes are there; false when it is not taken.
func (c *conn) announce(s *stream, there int) bool {
	a := &s.in
	length := binary.BigEndian.Uint32(a.prefix[1:])
	if int64(length) > int64(c.srv.o.MaxRecvBytes) {
		c.fail(s, status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", length, c.srv.o.MaxRecvBytes))
		return false
	}
	a.length = int(length)
	if s.head.method.unary != nil && a.length <= smallBytes && a.count == 0 {
		a.buf = s.small[:0]
		return true
	}
	a.allocate(c.srv.o.Buffers, min(a.length, max(trustBytes, there)))
	c.mu.Lock()
	s.expect = int64(a.length)
	c.grant(s)
	c.mu.Unlock()
	return true
}

func (a *assembly) allocate(pool mem.BufferPool, n int) {
	if n <= unpooledBytes {
		a.buf, a.box = make([]byte, 0, n), nil
		return
	}
	a.box = pool.Get(n)
	a.buf = (*a.box)[:0]
}

// grow makes room for more of the message.
func (a *assembly) grow(pool mem.BufferPool) {
	old, box := a.buf, a.box
	a.allocate(pool, min(a.length, growth*len(old)))
	a.buf = append(a.buf, old...)
	if box != nil {
		pool.Put(box)
	}
}

// complete hands on the message that is whole.
func (c *conn) complete(s *stream) {
	a := &s.in
	m := message{flag: a.prefix[0], size: prefixBytes + a.length, data: a.take(c.srv.o.Buffers)}
	a.have = 0
	a.count++
	if s.head.method.unary != nil {
		if a.count == 1 {
			s.first = m
			return
		}
		m.data.Free()
		c.fail(s, status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC"))
		return
	}
	c.handed = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone {
		m.data.Free()
		a.deaf = true
		return
	}
	s.expect = 0
	s.inbox = append(s.inbox, m)
	s.poke(s.mayTake)
}

// take makes a message of what was collected.
func (a *assembly) take(pool mem.BufferPool) mem.BufferSlice {
	buf, box := a.buf, a.box
	a.buf, a.box = nil, nil
	if len(buf) == 0 {
		if box != nil {
			pool.Put(box)
		}
		return nil
	}
	if box == nil {
		return mem.BufferSlice{mem.SliceBuffer(buf)}
	}
	*box = buf
	return mem.BufferSlice{mem.NewBuffer(box, pool)}
}

// drop throws away what was collected.
func (a *assembly) drop(pool mem.BufferPool) {
	if a.box != nil {
		pool.Put(a.box)
	}
	a.buf, a.box, a.deaf = nil, nil, true
}

// fail ends what a stream receives by an error, which its handler is told.
func (c *conn) fail(s *stream, err error) {
	s.in.drop(c.srv.o.Buffers)
	if s.head.method.unary != nil {
		c.dispatch(s, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.fault = err
	s.poke(s.mayTake)
}

// finishReceiving takes note that the client sends no more on a stream. REQUIRES: the caller is the reader; ended is set.
func (c *conn) finishReceiving(s *stream) {
	if s.in.deaf {
		return
	}
	err := io.EOF
	if s.in.partial() {
		err = status.Error(codes.Internal, io.ErrUnexpectedEOF.Error())
		s.in.drop(c.srv.o.Buffers)
	}
	if s.head.method.unary == nil {
		c.mu.Lock()
		s.fault = err
		s.poke(s.mayTake)
		c.mu.Unlock()
		return
	}
	switch {
	case err != io.EOF:
	case s.in.count == 0:
		err = status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")
	default:
		err = nil
	}
	c.handed = true
	c.dispatch(s, err)
}

// grant lets the client send more on a stream: as much as may be kept of it, and what the handler waits for. REQUIRES: mu is held.
func (c *conn) grant(s *stream) {
	if s.gone || s.ended || s.fault != nil {
		return
	}
	goal, expect := streamWindow-s.held, int64(0)
	if len(s.inbox) == 0 {
		expect = s.expect
	}
	more := max(goal, expect) - s.granted
	if more <= 0 || more < streamWindow/4 && s.granted >= expect {
		return
	}
	s.granted += more
	c.out = appendWindowUpdate(c.output.take(), s.id, more)
}

// dispatch starts the handler of a unary call, whose request is there, or will not be because of err. REQUIRES: the caller is the reader.
func (c *conn) dispatch(s *stream, err error) {
	s.fault, s.in.deaf = err, true
	if c.admit(s) {
		c.srv.workers.run(s)
		return
	}
	s.first.data.Free()
}

// admit counts a call whose handler is to start; false when the stream has ended meanwhile. It waits while as many handlers are at work as
// calls are allowed, or orphansMax are of streams that were reset. REQUIRES: the caller is the reader.
func (c *conn) admit(s *stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for limit := c.srv.o.MaxConcurrentStreams; (limit > 0 && c.running >= limit || c.orphans >= orphansMax) && !c.closed; {
		c.kick()
		c.wait()
	}
	if s.gone {
		return false
	}
	c.running++
	if s.head.method.unary != nil {
		c.unaries++
	}
	s.serving = true
	c.full = c.stuffed()
	c.srv.handlers.Add(1)
	return true
}
