package rpc

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// call is a unary call of the KV service on its way through the interceptors to its handler, with all that it needs in one piece, which
// is used again: as with its Request, nothing of it may be kept once the call has ended.
type call struct {
	req  Request
	late late
	info grpc.UnaryServerInfo
	kv   *KV
	do   func(*KV, context.Context, *Request) (*Response, error)
	resp *Response

	handler grpc.UnaryHandler // handle, for interceptors
}

var calls = sync.Pool{New: func() any {
	c := new(call)
	c.handler = c.handle
	return c
}}

// unary makes the handler of a method.
func unary(m Method, do func(*KV, context.Context, *Request) (*Response, error)) grpc.MethodDesc {
	name := "/" + etcdserverpb.KV_ServiceDesc.ServiceName + "/" + m.String()
	return grpc.MethodDesc{MethodName: m.String(), Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		c := calls.Get().(*call)
		c.kv, c.do = srv.(*KV), do
		c.req.method, c.req.began = m, time.Now()
		resp, err := c.serve(ctx, name, decode, interceptor)
		c.end(err)
		return resp, err
	}}
}

func (c *call) serve(ctx context.Context, method string, decode decoder, interceptor grpc.UnaryServerInterceptor) (any, error) {
	c.late.message = &c.req
	if err := decode.worded(&c.late); err != nil {
		return nil, err
	}
	if interceptor == nil {
		return c.handle(ctx, &c.req)
	}
	c.info.Server, c.info.FullMethod = c.kv, method
	return interceptor(ctx, &c.req, &c.info, c.handler)
}

// handle is the grpc.UnaryHandler of the call.
func (c *call) handle(ctx context.Context, req any) (any, error) {
	resp, err := c.do(c.kv, ctx, req.(*Request))
	if err != nil {
		return nil, toStatus(err)
	}
	c.resp = resp
	return resp, nil
}

// end gives back what the call held. An interceptor may have made an error of its response.
func (c *call) end(err error) {
	if err != nil && c.resp != nil {
		c.resp.drop()
	}
	c.req.free()
	handler := c.handler
	*c = call{handler: handler}
	calls.Put(c)
}
