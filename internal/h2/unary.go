package h2

import (
	"context"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// serveUnary runs the handler of a unary call, and sends what it answers.
func (s *stream) serveUnary() {
	m := s.head.method
	reply, err := m.unary.Handler(m.impl, s, s.receive, s.c.srv.o.Unary)
	s.first.data.Free() // unless the handler has taken it
	s.first.data = nil
	if err == nil {
		var flag byte
		var data mem.BufferSlice
		if flag, data, err = s.encode(reply); err == nil {
			s.answer(flag, data)
			return
		}
	}
	s.finish(toStatus(err))
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

// answer sends the response of a unary call and its status.
func (s *stream) answer(flag byte, data mem.BufferSlice) {
	c := s.c
	c.mu.Lock()
	if s.gone || s.over || !c.begin(s) {
		data.Free()
	} else {
		c.send(s, flag, data)
		c.conclude(s, okStatus)
	}
	c.mu.Unlock()
	s.cancel(context.Canceled)
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
