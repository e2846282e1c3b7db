package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errUntrusted sends clients to another member.
var errUntrusted = status.Error(codes.Unavailable,
	"etcdserver: this member's state differs from the majority's and is being rebuilt; ask another member")

// distrust returns errUntrusted while the member's state is known to be wrong, but for its status, which tells the alarms.
func (g *guard) distrust(method string) error {
	if g.trusted == nil || method == methodStatus || g.trusted() == nil {
		return nil
	}
	return errUntrusted
}

// handle calls the handler, whose answer does not count if the state was found to be wrong meanwhile.
func (g *guard) handle(ctx context.Context, method string, req any, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if untrusted := g.distrust(method); untrusted != nil {
		if r, ok := resp.(*Response); ok && r != nil {
			r.drop()
		}
		return nil, untrusted
	}
	if r, ok := resp.(*Response); ok && r != nil && r.rest != nil && g.trusted != nil {
		r.rest.trusted = func() error { return g.distrust(method) }
	}
	return resp, err
}

// doubted is a stream on which nothing is sent once the state was found to be wrong.
type doubted struct {
	grpc.ServerStream
	g      *guard
	method string
}

// SendMsg implements grpc.ServerStream.
func (d doubted) SendMsg(m any) error {
	if err := d.g.distrust(d.method); err != nil {
		if r, ok := m.(*Response); ok && r != nil {
			r.drop()
		}
		return err
	}
	return d.ServerStream.SendMsg(m)
}
