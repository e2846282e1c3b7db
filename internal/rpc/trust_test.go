package rpc

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// sink is a stream that counts what is sent.
type sink struct {
	grpc.ServerStream
	sent int
}

func (s *sink) SendMsg(any) error { s.sent++; return nil }

func TestNothingIsAnsweredFromAWrongState(t *testing.T) {
	t.Parallel()
	var wrong error
	g := &guard{trusted: func() error { return wrong }}
	answer := func(method string, during error) error {
		_, err := g.handle(t.Context(), method, nil, func(context.Context, any) (any, error) {
			wrong = during
			return nil, nil
		})
		return err
	}
	bad := errors.New("wrong")
	if err := answer(methodRange, nil); err != nil {
		t.Errorf("a right state: %v", err)
	}
	if err := answer(methodRange, bad); status.Code(err) != codes.Unavailable {
		t.Errorf("one found to be wrong while it was read: %v", err)
	}
	if err := g.admit(nil, methodRange); status.Code(err) != codes.Unavailable {
		t.Errorf("the next request: %v", err)
	}
	if err := g.admit(nil, methodStatus); err != nil {
		t.Errorf("the status tells why: %v", err)
	}
	to := &sink{}
	s := doubted{to, g, "/etcdserverpb.Watch/Watch"}
	if err := s.SendMsg(nil); status.Code(err) != codes.Unavailable || to.sent != 0 {
		t.Errorf("an event: %v, sent %d", err, to.sent)
	}
	wrong = nil
	if err := s.SendMsg(nil); err != nil || to.sent != 1 {
		t.Errorf("an event of a right state: %v, sent %d", err, to.sent)
	}
}
