package h2

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// directBytes is how much of a message has to be missing for it to be read to where it is collected.
const directBytes = 4 << 10

// data is the DATA frame that is being read.
type data struct {
	s    *stream // nil when its bytes are thrown away
	left int     // bytes of messages
	pad  int     // bytes of padding after them
	end  bool
	open bool
}

// block is a header block that is being collected.
type block struct {
	open   bool
	stream uint32
	end    bool
	frames int
	buf    []byte
}

// read takes frames until the connection ends, and returns why.
func (c *conn) read() error {
	for {
		for {
			more, err := c.step()
			if err != nil {
				return err
			}
			if !more {
				break
			}
		}
		c.mu.Lock()
		if c.mayHold() {
			c.hold()
		} else {
			c.kick()
		}
		c.mu.Unlock()
		c.handed = false
		if err := c.receive(); err != nil {
			return err
		}
	}
}

// step takes one frame, or a piece of DATA, of what was read; false when more has to be read.
func (c *conn) step() (bool, error) {
	if c.full {
		if !c.drainOut() {
			return false, errClosing
		}
	}
	if c.data.open {
		return c.stepData(), nil
	}
	have := c.to - c.from
	if have < headerBytes {
		return false, nil
	}
	f := parseFrame(c.in[c.from:])
	if err := f.check(); err != nil {
		return false, err
	}
	if c.block.open && (f.kind != kindContinuation || f.stream != c.block.stream) {
		return false, broken(codeProtocol, "a frame of kind %#x between the headers of a request", f.kind)
	}
	if f.kind == kindData {
		if f.has(flagPadded) && have <= headerBytes {
			return false, nil
		}
		c.from += headerBytes
		if err := c.beginData(f); err != nil {
			return false, err
		}
		return true, nil
	}
	if have < headerBytes+f.length {
		return false, nil
	}
	p := c.in[c.from+headerBytes:][:f.length]
	c.from += headerBytes + f.length
	if err := c.take(f, p); err != nil {
		return false, err
	}
	return true, nil
}

// drainOut waits until the client has read enough; false when the connection has ended.
func (c *conn) drainOut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kick()
	for c.stuffed() && !c.closed {
		c.wait()
	}
	c.full = false
	return !c.closed
}

// receive reads more. A long message is read to where it is collected.
func (c *conn) receive() error {
	if d := &c.data; d.open && d.s != nil && c.from == c.to && d.left >= directBytes {
		a := &d.s.in
		if n := min(a.room(), d.left); a.have == prefixBytes && !a.deaf && n >= directBytes {
			at := len(a.buf)
			k, err := c.nc.Read(a.buf[at : at+n])
			if k > 0 {
				c.touch()
				d.left -= k
				a.buf = a.buf[:at+k]
				c.grown(d.s)
				c.closeData()
				return nil
			}
			return err
		}
	}
	return c.fill()
}

// grown goes on after bytes were added to the message of a stream.
func (c *conn) grown(s *stream) {
	if a := &s.in; len(a.buf) == a.length {
		c.complete(s)
	} else if a.room() == 0 {
		a.grow(c.srv.o.Buffers)
	}
}

// take takes a whole frame that is not DATA.
func (c *conn) take(f frame, p []byte) error {
	var err *brokenConn
	switch f.kind {
	case kindHeaders:
		err = c.takeHeaders(f, p)
	case kindContinuation:
		err = c.takeContinuation(f, p)
	case kindReset:
		err = c.takeReset(f)
	case kindSettings:
		err = c.settings(f, p)
	case kindPing:
		err = c.ping(f, p)
	case kindWindowUpdate:
		err = c.windowUpdate(f, p)
	}
	if err != nil { // a nil pointer is no nil error
		return err
	}
	return nil
}

func (c *conn) takeHeaders(f frame, p []byte) *brokenConn {
	b, err := f.headerBlock(p)
	if err != nil {
		return err
	}
	if f.has(flagEndHeaders) {
		return c.request(f.stream, f.has(flagEndStream), b)
	}
	c.block = block{open: true, stream: f.stream, end: f.has(flagEndStream), buf: append(c.block.buf[:0], b...)}
	return nil
}

func (c *conn) takeContinuation(f frame, p []byte) *brokenConn {
	k := &c.block
	if !k.open {
		return broken(codeProtocol, "CONTINUATION without HEADERS")
	}
	if k.frames++; k.frames > continuationsMax || len(k.buf)+len(p) > blockMax {
		return broken(codeCalm, "headers of more than %d bytes or %d frames", blockMax, continuationsMax)
	}
	k.buf = append(k.buf, p...)
	if !f.has(flagEndHeaders) {
		return nil
	}
	err := c.request(k.stream, k.end, k.buf)
	c.block = block{}
	return err
}

// request takes the whole header block of a stream.
func (c *conn) request(id uint32, end bool, b []byte) *brokenConn {
	r, err := c.headers.read(b)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if id%2 != 1 || id <= c.lastID {
		c.mu.Unlock()
		return broken(codeProtocol, "received an illegal stream id: %v", id)
	}
	c.lastID = id
	if c.drains == drainLast {
		c.mu.Unlock()
		return nil // the client was told that it is not served
	}
	s, answer := c.admitStream(id, end, r)
	c.full = c.stuffed()
	c.mu.Unlock()
	if s == nil {
		return nil
	}
	if answer != nil {
		s.finish(answer)
		return nil
	}
	c.last = s
	if s.head.method.stream != nil {
		if end {
			c.finishReceiving(s)
		}
		if c.admit(s) {
			go s.serveAlone()
		}
		return nil
	}
	if end {
		c.finishReceiving(s)
	}
	return nil
}

// admitStream opens a stream; nil when it is refused. The status is what is answered in place of a handler, nil when there is one.
// REQUIRES: mu is held.
func (c *conn) admitStream(id uint32, end bool, r request) (*stream, *status.Status) {
	resetWith := func(why code) (*stream, *status.Status) {
		c.out = appendReset(c.output.take(), id, why)
		return nil, nil
	}
	refuse := func(why *refusal) (*stream, *status.Status) {
		c.appendRefusal(id, r.head, why)
		if !end {
			c.out = appendReset(c.output.take(), id, codeNo)
		}
		return nil, nil
	}
	limit := c.srv.o.MaxConcurrentStreams
	switch h := r.head; {
	case r.reset != codeNo:
		return resetWith(r.reset)
	case h.malformed:
		return resetWith(codeProtocol)
	case h.refusal != nil:
		return refuse(h.refusal)
	case limit > 0 && uint32(len(c.streams)) >= limit:
		return resetWith(codeRefused)
	case h.notPost != nil:
		return refuse(h.notPost)
	case r.timed && r.timeout <= 0:
		return refuse(&refusal{http.StatusOK, status.New(codes.DeadlineExceeded, context.DeadlineExceeded.Error())})
	case c.closed:
		return nil, nil
	}
	s := &stream{c: c, id: id, head: r.head, ended: end, granted: streamWindow, quota: writeQuota}
	s.parent, s.self = r.head.ctx, s
	if m := r.head.method; m != nil && m.stream != nil { // before anybody else knows of it: it may end at once
		s.mayTake, s.mayQueue = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	if r.timed {
		s.deadline = time.Now().Add(r.timeout)
		s.timer = time.AfterFunc(r.timeout, s.expire)
	}
	c.streams[id] = s
	return s, r.head.answer
}

// serveAlone serves a call in a goroutine of its own.
func (s *stream) serveAlone() {
	defer s.c.srv.handlers.Done()
	s.serve()
}

// find returns a stream that is open; nil when there is none. REQUIRES: mu is held, and the caller is the reader.
func (c *conn) find(id uint32) *stream {
	if c.last != nil && c.last.id == id {
		if c.last.gone {
			return nil
		}
		return c.last
	}
	return c.streams[id]
}

// idle tells whether a client names a stream that it never opened. REQUIRES: mu is held, or the caller is the reader.
func (c *conn) idle(id uint32) bool { return id%2 == 0 || id > c.lastID }

// beginData takes the header of a DATA frame.
func (c *conn) beginData(f frame) *brokenConn {
	d := data{left: f.length, end: f.has(flagEndStream), open: true}
	if f.has(flagPadded) {
		d.pad = int(c.in[c.from])
		c.from++
		if d.left--; d.pad > d.left {
			return broken(codeProtocol, "more padding than DATA has bytes")
		}
		d.left -= d.pad
	}
	if c.idle(f.stream) {
		return broken(codeProtocol, "DATA on stream %d, which is not open", f.stream)
	}
	n := int64(f.length)
	if n > c.granted {
		return broken(codeFlowControl, "DATA beyond the window of the connection")
	}
	c.granted -= n
	c.unacked += n
	c.mu.Lock()
	if c.unacked >= connWindow/4 {
		c.out = appendWindowUpdate(c.output.take(), 0, c.unacked)
		c.granted += c.unacked
		c.unacked = 0
	}
	s := c.find(f.stream)
	why := codeNo
	switch {
	case s == nil:
	case s.ended:
		why = codeStreamClosed
	case n > s.granted:
		why = codeFlowControl
	default:
		s.granted -= n
		s.ended = d.end
		if s.head.method.stream != nil {
			s.held += int64(d.left)
		}
		if d.left < f.length { // padding is taken at once
			c.grant(s)
		}
		d.s = s
	}
	c.full = c.stuffed()
	c.mu.Unlock()
	if why != codeNo {
		s.abandon(why)
		s.in.drop(c.srv.o.Buffers)
	}
	c.data = d
	c.closeData()
	return nil
}

// stepData takes what was read of a DATA frame; false when there is nothing.
func (c *conn) stepData() bool {
	d := &c.data
	have := c.to - c.from
	if have == 0 {
		return false
	}
	if n := min(have, d.left); n > 0 {
		d.left -= n
		if d.s != nil {
			c.feed(d.s, c.in[c.from:c.from+n])
		}
		c.from += n
		have -= n
	}
	if d.left == 0 {
		n := min(have, d.pad)
		d.pad -= n
		c.from += n
	}
	c.closeData()
	return true
}

// closeData ends a DATA frame that was taken whole.
func (c *conn) closeData() {
	d := &c.data
	if d.left > 0 || d.pad > 0 {
		return
	}
	s, end := d.s, d.end
	*d = data{}
	if s != nil && end {
		c.finishReceiving(s)
	}
}
