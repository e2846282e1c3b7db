package rpc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// decoder decodes the request of a unary call, as gRPC hands it to handlers.
type decoder func(any) error

// late is a message to decode whose error gRPC is not to see: it would end the call in words of its own.
type late struct {
	message any
	err     error
}

// worded gives the error of a malformed unary request the words that gRPC had in the version that etcd 3.7.1 was
// built with. Later versions word it as they do for streams.
func (d decoder) worded(l *late) error {
	if err := d(l); err != nil {
		return err
	}
	if l.err != nil {
		return status.Errorf(codes.Internal, "grpc: error unmarshalling request: %v", l.err)
	}
	return nil
}

// register adds a generated service with such errors.
func register(r grpc.ServiceRegistrar, desc grpc.ServiceDesc, srv any) {
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		call := desc.Methods[i].Handler
		desc.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			return call(srv, ctx, func(v any) error { return decoder(decode).worded(&late{message: v}) }, in)
		}
	}
	r.RegisterService(&desc, srv)
}
