package web

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// bodyKey is the key of a request's body in its context.
type bodyKey struct{}

// errBodyTooLarge is what a client is told of a message in JSON that no request could need.
var errBodyTooLarge = status.Error(codes.ResourceExhausted, "etcdserver: request is too large")

// errNoRequest is what a client is told of a stream of requests that ends before the first.
var errNoRequest = status.Error(codes.InvalidArgument, "the body holds no request")

// body is the body of a request on its way into the decoder. It bounds what is read for one message and keeps what was wrong:
// to a stream, the gateway's generated code does not say so, and its client would wait for ever.
//
// One goroutine reads; failed and finish may be called from others.
type body struct {
	io.ReadCloser
	max  int64
	left int64 // may still be read for the present message
	many bool  // it holds a stream of messages
	rest bool  // what follows the only message is read, too: see next
	read int   // messages
	done bool  // the only message was read; nothing else is looked at
	came func()

	cancel context.CancelFunc // ends the request
	mu     sync.Mutex
	err    error // the first failure
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if b.left <= 0 {
		return 0, errBodyTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// next calls decode for the next message, and ends the request if that fails.
//
// What follows the only message is read up to the end of the body: before that, a server of HTTP/1 does not notice that the client has
// gone, and a call that waits, as for a lock, would wait for ever.
func (b *body) next(decode func() error) error {
	b.left = b.max
	err := decode()
	if err == nil && b.rest {
		_, err = io.Copy(io.Discard, b)
	}
	if !b.many {
		b.done = true
		b.finish()
	}
	if errors.Is(err, io.EOF) {
		if b.many && b.read == 0 {
			b.fail(errNoRequest)
		}
		return io.EOF
	}
	if err != nil {
		err = refusal(err)
		b.fail(err)
		if b.many {
			return io.EOF // the generated code would log it, and do no more
		}
		return errors.New(status.Convert(err).Message())
	}
	b.read++
	return nil
}

// refusal says what is wrong with a message. Package proto writes a no-break space for a space here and there.
func refusal(err error) error {
	if errors.Is(err, errBodyTooLarge) {
		return errBodyTooLarge
	}
	return status.Error(codes.InvalidArgument, strings.ReplaceAll(err.Error(), "\u00a0", " "))
}

// fail keeps the first failure, and ends a stream with it.
func (b *body) fail(err error) {
	b.mu.Lock()
	if b.err == nil {
		b.err = err
	}
	b.mu.Unlock()
	if b.many {
		b.cancel()
	}
}

func (b *body) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// finish says that nothing else is waited for.
func (b *body) finish() {
	b.mu.Lock()
	came := b.came
	b.came = nil
	b.mu.Unlock()
	if came != nil {
		came()
	}
}

// failure returns why a request failed: err, or what was wrong with its body, which is then the cause of err.
func failure(ctx context.Context, err error) error {
	if b, ok := ctx.Value(bodyKey{}).(*body); ok {
		if err := b.failed(); err != nil {
			return err
		}
	}
	return err
}
