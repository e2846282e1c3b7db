package h2

import (
	"context"
	"io"
	"runtime"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// serveUnary runs the handler of a unary call, and sends what it answers.
func (s *stream) serveUnary() {
	m, c := s.head.method, s.c
	reply, err := m.unary.Handler(m.impl, s, s.receive, c.srv.o.Unary)
	s.first.data.Free() // unless the handler has taken it
	s.first.data = nil
	if g, ok := reply.(Gradual); ok && err == nil && g.Pending() > 0 {
		s.serveGradual(g)
		return
	}
	var flag byte
	var data mem.BufferSlice
	if err == nil {
		flag, data, err = s.encode(reply)
	}
	st := okStatus
	if err != nil {
		st = toStatus(err)
	}
	c.mu.Lock()
	switch {
	case s.gone || s.over:
		data.Free()
	case err != nil:
		c.conclude(s, st)
	case c.begin(s):
		c.send(s, flag, data)
		c.conclude(s, st)
	default:
		data.Free()
	}
	c.served(s)
	flush, alone := c.claim(), c.unaries == 0
	c.mu.Unlock()
	s.cancel(context.Canceled)
	if !flush {
		return
	}
	if !alone {
		// Calls that are answered together are written together.
		runtime.Gosched()
	}
	c.flush()
}

// receive decodes the request of a unary call. An error is also the call's.
func (s *stream) receive(v any) error {
	err := s.fault
	if err == nil {
		m := s.first
		s.first.data, s.fault = nil, io.EOF
		err = s.decode(m, v)
	} else if err == io.EOF {
		// It was taken before.
		return err
	}
	if err != nil {
		s.finish(toStatus(err))
	}
	return err
}

// toStatus returns the status of a handler's error.
func toStatus(err error) *status.Status {
	if st, ok := status.FromError(err); ok {
		if st.Code() == codes.OK {
			return okStatus
		}
		return st
	}
	return status.FromContextError(err)
}
