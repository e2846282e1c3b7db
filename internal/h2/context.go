package h2

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// call is the context of a call. Whoever has it may keep it for as long as they like: it is never used again for another one.
type call struct {
	parent   context.Context // who the peer is, and the metadata; is never done
	self     grpc.ServerTransportStream
	deadline time.Time // zero for none

	ctxMu sync.Mutex
	err   error
	done  chan struct{} // nil until somebody asks
	after *callback
}

// callback is one function to be called at the end of a call.
type callback struct {
	f    func()
	next *callback
}

// closed is the channel of calls that had ended before anybody asked.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// streamKey is the key under which grpc.ServerTransportStreamFromContext looks.
var streamKey = func() any {
	p := &probe{Context: context.Background()}
	grpc.ServerTransportStreamFromContext(p)
	return p.key
}()

// probe is a context that learns what it is asked for.
type probe struct {
	context.Context
	key any
}

// Value implements context.Context.
func (p *probe) Value(key any) any {
	p.key = key
	return nil
}

// String says what the context is; nobody else is to look into it.
func (c *call) String() string { return "h2.call(" + c.self.Method() + ")" }

// Deadline implements context.Context.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *call) Done() <-chan struct{} {
	c.ctxMu.Lock()
	defer c.ctxMu.Unlock()
	if c.done == nil {
		if c.err != nil {
			c.done = closed
		} else {
			c.done = make(chan struct{})
		}
	}
	return c.done
}

// Err implements context.Context.
func (c *call) Err() error {
	c.ctxMu.Lock()
	defer c.ctxMu.Unlock()
	return c.err
}

// Value implements context.Context.
func (c *call) Value(key any) any {
	if key == streamKey {
		return c.self
	}
	return c.parent.Value(key)
}

// AfterFunc calls f once the call has ended, unless the function that it returns was called before. Package context asks for
// it: contexts made of this one need no goroutine. f must not block. It is called in a goroutine of its own if the call has
// ended already, as package context calls with locks held.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	cb := &callback{f: f}
	c.ctxMu.Lock()
	if c.err != nil {
		c.ctxMu.Unlock()
		go f()
		return func() bool { return false }
	}
	cb.next, c.after = c.after, cb
	c.ctxMu.Unlock()
	return func() bool { return c.forget(cb) }
}

// forget takes a callback off, and tells whether it was still there.
func (c *call) forget(cb *callback) bool {
	c.ctxMu.Lock()
	defer c.ctxMu.Unlock()
	for at := &c.after; *at != nil; at = &(*at).next {
		if *at == cb {
			*at = cb.next
			return true
		}
	}
	return false
}

// cancel ends the call's context, once. REQUIRES: no lock is held.
func (c *call) cancel(err error) {
	c.ctxMu.Lock()
	if c.err != nil {
		c.ctxMu.Unlock()
		return
	}
	c.err = err
	if c.done != nil {
		close(c.done)
	}
	after := c.after
	c.after = nil
	c.ctxMu.Unlock()
	for ; after != nil; after = after.next {
		after.f()
	}
}
