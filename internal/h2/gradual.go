package h2

import (
	"context"
	"errors"
	"math"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// gradualAhead is how many bytes of a gradual answer wait to be sent before no more of it is made.
const gradualAhead = 512 << 10

// Gradual is an answer of a unary call that need not be there whole: it is made while it is sent, and a client that does not read holds up
// who makes it. The codec does not see it. Handlers may return one in calls for which SendsGradually is true.
type Gradual interface {
	// Pending returns how long the message is, 0 when it is an ordinary one for the codec.
	Pending() int
	// Make makes the message, which passes piece by piece to send. It is called once if Pending was not 0, even when the call has ended
	// meanwhile, and returns the error of send, which then sends no more. The call fails after an error, and when the
	// pieces do not add up to what Pending has said; as its answer has begun, its stream is reset with INTERNAL_ERROR.
	Make(send func(piece mem.BufferSlice) error) error
}

var errPieces = errors.New("the pieces of a message are longer than it was to be")

// SendsGradually tells whether the handler of the unary call that ctx belongs to may return a Gradual: this transport serves the call, and does
// not compress its answer.
func SendsGradually(ctx context.Context) bool {
	s, ok := ctx.Value(ownKey{}).(*stream)
	return ok && s.head.method.unary != nil && s.head.packer == nil
}

// serveGradual sends what a handler answers as it is made, and its status.
func (s *stream) serveGradual(g Gradual) {
	c, length := s.c, g.Pending()
	c.mu.Lock()
	switch {
	case s.gone || s.over:
	case length > math.MaxInt32:
		c.conclude(s, status.Newf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", length, math.MaxInt32))
	case c.begin(s):
		s.mayQueue, s.quota = make(chan struct{}, 1), gradualAhead
		c.enqueue(s, plainMessage, nil, length)
	}
	c.mu.Unlock()
	err := g.Make(s.sendPiece)
	c.mu.Lock()
	switch {
	case s.gone || s.over:
	case err != nil || len(s.queue) > 0 && s.queue[0].more > 0:
		c.reset(s, codeInternal)
	default:
		c.conclude(s, okStatus)
	}
	c.served(s)
	c.kick()
	c.mu.Unlock()
	s.cancel(context.Canceled)
}

// sendPiece queues the next piece of a gradual answer, and waits while gradualAhead bytes are queued. It takes over the piece.
func (s *stream) sendPiece(piece mem.BufferSlice) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for !s.gone && !s.over && s.quota <= 0 {
		s.awaitQuota()
	}
	n := piece.Len()
	switch {
	case s.gone || s.over:
		piece.Free()
		return s.goneError()
	case len(s.queue) == 0 || n > s.queue[0].more:
		piece.Free()
		c.reset(s, codeInternal)
		return errPieces
	case n == 0:
		piece.Free()
		return nil
	}
	m := &s.queue[0]
	m.data = append(m.data, piece...)
	m.more -= n
	m.left += n
	s.quota -= n
	c.queued += int64(n)
	c.ring(s)
	c.kick()
	return nil
}
