package h2

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// writeQuota is how many bytes of messages a streaming call may have queued before it has to wait.
const writeQuota = 64 << 10

// stream is one call and the HTTP/2 stream that it came on. It is the context of the call, and is never used again.
type stream struct {
	call
	c     *conn
	id    uint32
	head  *head
	timer *time.Timer // of the deadline; nil for none

	// Guarded by c.mu.
	gone    bool // nothing more is sent or taken
	cut     bool // since the client took nothing for the handler's patience
	serving bool // its handler is at work
	over    bool // the status is known; it is sent once the queue is empty
	ended   bool // the client sends no more
	begun   bool // headers were sent
	ringed  bool // it is in line to send
	prev    *stream
	next    *stream
	queue   []outgoing
	quota   int   // what of writeQuota, or of gradualAhead, is left
	sent    int64 // bytes of DATA beyond the window updates that came
	granted int64 // what the client may still send
	header  metadata.MD
	trailer metadata.MD
	status  *status.Status
	// Of a streaming call.
	inbox    []message
	held     int64         // bytes that came and that the handler has not taken
	expect   int64         // the length of the message that is being received
	mayTake  chan struct{} // inbox or its end has changed
	mayQueue chan struct{} // quota has changed; also of a call whose answer is gradual

	patience time.Duration // the handler's own, see BoundWaits

	in    assembly // the reader's own
	first message  // of a unary call
	fault error    // why there are no more messages
	small [smallBytes]byte
}

// ownKey is the key of a call's context under which its stream is, for this package.
type ownKey struct{}

// Value implements context.Context.
func (s *stream) Value(key any) any {
	if key == (ownKey{}) {
		return s
	}
	return s.call.Value(key)
}

var (
	errHeadersSent = status.Error(codes.Internal, "transport: SendHeader called multiple times")
	errListTooLong = status.Error(codes.Internal, "transport: trying to send header list size larger than the limit set by peer")
	errClosing     = status.Error(codes.Unavailable, "transport is closing")
	errPatience    = status.Error(codes.ResourceExhausted, "transport: the client takes nothing of the answer")
	okStatus       = status.New(codes.OK, "")
)

// contextError is the status error of a context that has ended.
func contextError(err error) error {
	if err == context.DeadlineExceeded {
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return status.Error(codes.Canceled, context.Canceled.Error())
}

// goneError is why nothing can be sent any more. REQUIRES: c.mu is held.
func (s *stream) goneError() error {
	switch {
	case s.cut:
		return errPatience
	case s.c.closed:
		return errClosing
	}
	return contextError(s.Err())
}

// Method implements grpc.ServerTransportStream.
func (s *stream) Method() string { return s.head.path }

// SetHeader implements grpc.ServerTransportStream.
func (s *stream) SetHeader(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.begun || s.gone || s.over {
		return errHeadersSent
	}
	s.header = metadata.Join(s.header, md)
	return nil
}

// SendHeader implements grpc.ServerTransportStream.
func (s *stream) SendHeader(md metadata.MD) error {
	err := s.sendHeader(md)
	if err == errListTooLong {
		s.cancel(context.Canceled)
	}
	return err
}

func (s *stream) sendHeader(md metadata.MD) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.gone || s.over {
		return s.goneError()
	}
	if s.begun {
		return errHeadersSent
	}
	if md.Len() > 0 {
		s.header = metadata.Join(s.header, md)
	}
	if !c.begin(s) {
		return errListTooLong
	}
	c.kick()
	return nil
}

// SetTrailer implements grpc.ServerTransportStream.
func (s *stream) SetTrailer(md metadata.MD) error {
	if md.Len() == 0 {
		return nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.gone || s.over {
		return errHeadersSent
	}
	s.trailer = metadata.Join(s.trailer, md)
	return nil
}

// begin sends the headers, unless they were sent. If the client does not take them the stream is reset, and the result false.
// REQUIRES: mu is held; the stream is not gone.
func (c *conn) begin(s *stream) bool {
	if s.begun {
		return true
	}
	s.begun = true
	if c.appendHeaders(s) {
		return true
	}
	c.reset(s, codeInternal)
	return false
}

// finish sends the status after what is queued, once, and ends the context.
func (s *stream) finish(st *status.Status) {
	c := s.c
	c.mu.Lock()
	c.conclude(s, st)
	c.kick()
	c.mu.Unlock()
	s.cancel(context.Canceled)
}

// conclude is finish without ending the context. REQUIRES: mu is held.
func (c *conn) conclude(s *stream, st *status.Status) {
	if s.gone || s.over {
		return
	}
	s.over, s.status = true, st
	if s.timer != nil {
		s.timer.Stop()
	}
	s.poke(s.mayTake)
	s.poke(s.mayQueue)
	if len(s.queue) == 0 {
		c.end(s)
	}
}

// end sends the status. REQUIRES: mu is held, and nothing is queued.
func (c *conn) end(s *stream) {
	if !s.begun && len(s.header) > 0 && !c.begin(s) {
		return
	}
	if !c.appendTrailers(s) {
		c.reset(s, codeInternal)
		return
	}
	if !s.ended {
		c.out = appendReset(c.output.take(), s.id, codeNo)
	}
	c.remove(s)
}

// reset ends a stream by an error. REQUIRES: mu is held. Its context is cancelled afterwards by the caller.
func (c *conn) reset(s *stream, why code) {
	if s.gone {
		return
	}
	c.out = appendReset(c.output.take(), s.id, why)
	c.remove(s)
	c.kick()
}

// remove takes a stream off the connection. REQUIRES: mu is held.
func (c *conn) remove(s *stream) {
	delete(c.streams, s.id)
	s.leave()
	c.drained()
}

// leave marks a stream that is taken off the connection, and frees what it has. REQUIRES: mu is held.
func (s *stream) leave() {
	s.gone = true
	if s.serving {
		s.c.orphans++
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.c.drop(s)
	for _, m := range s.inbox {
		m.data.Free()
	}
	s.inbox = nil
	s.poke(s.mayTake)
	s.poke(s.mayQueue)
}

// poke makes whoever waits on a channel look again.
func (s *stream) poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// expire ends a call whose deadline has come.
func (s *stream) expire() {
	c := s.c
	c.mu.Lock()
	over := s.gone || s.over
	c.mu.Unlock()
	if over {
		return
	}
	s.cancel(context.DeadlineExceeded) // first, so that it is what the handler is told
	c.mu.Lock()
	c.reset(s, codeCancel)
	c.mu.Unlock()
}

// abandon ends a call that the client, or the reader because of it, has given up.
func (s *stream) abandon(why code) {
	c := s.c
	c.mu.Lock()
	if !s.gone {
		if why == codeNo {
			c.remove(s)
		} else {
			c.reset(s, why)
		}
	}
	c.mu.Unlock()
	s.cancel(context.Canceled)
}

// serve runs the handler of a call.
func (s *stream) serve() {
	if s.head.method.unary != nil {
		s.serveUnary()
	} else {
		s.serveStream()
	}
}

// served notes that the handler has returned. REQUIRES: mu is held.
func (c *conn) served(s *stream) {
	c.running--
	if s.head.method.unary != nil {
		c.unaries--
	}
	s.serving = false
	if s.gone {
		c.orphans--
	}
	c.wake()
}
