package proxy

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// identity is what a request says about who sends it.
type identity struct{ token, authorization, leader string }

// The names are those of the metadata of a request.
const (
	tokenKey         = "token"
	authorizationKey = "authorization"
	leaderKey        = "hasleader"
)

func identityOf(ctx context.Context) identity {
	md, _ := metadata.FromIncomingContext(ctx)
	one := func(key string) string { return strings.Join(md.Get(key), "\x00") }
	return identity{one(tokenKey), one(authorizationKey), one(leaderKey)}
}

// outgoing returns a context for requests upstream in the name of the identity.
func (i identity) outgoing(ctx context.Context) context.Context {
	md := metadata.MD{}
	for key, joined := range map[string]string{tokenKey: i.token, authorizationKey: i.authorization, leaderKey: i.leader} {
		if joined != "" {
			md[key] = strings.Split(joined, "\x00")
		}
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// passed returns a context for passing a client's request on: with its deadline, and its metadata but for those of gRPC itself.
func passed(ctx context.Context) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	out := metadata.MD{}
	for key, values := range in {
		if !strings.HasPrefix(key, ":") && !strings.HasPrefix(key, "grpc-") && key != "content-type" && key != "user-agent" && key != "te" {
			out[key] = values
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// frame is a message that is passed on as it came.
type frame struct{ data []byte }

// codec passes frames on and encodes everything else as protobuf.
type codec struct{ messages encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.messages.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = data.Materialize()
		return nil
	}
	return c.messages.Unmarshal(data, v)
}

// Name implements encoding.CodecV2.
func (c codec) Name() string { return c.messages.Name() }

// forwarder passes on whatever the proxy has no part in.
type forwarder struct{ upstream grpc.ClientConnInterface }

// forward is a handler of methods that the server does not know.
func (f forwarder) forward(_ any, client grpc.ServerStream) error {
	method, ok := grpc.MethodFromServerStream(client)
	if !ok {
		return fmt.Errorf("a stream without a method")
	}
	ctx, cancel := context.WithCancel(passed(client.Context()))
	defer cancel()
	upstream, err := f.upstream.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() { // ends with the client's stream, whose context ends when this handler returns
		for {
			var m frame
			if err := client.RecvMsg(&m); err != nil {
				_ = upstream.CloseSend() // the client has said all, or is gone and its context with it
				return
			}
			if err := upstream.SendMsg(&m); err != nil {
				return // the reason comes with what is received
			}
		}
	}()
	return answers(client, upstream)
}

// answers passes on what comes from upstream until it ends, its metadata included, and returns upstream's status.
func answers(client grpc.ServerStream, upstream grpc.ClientStream) error {
	for first := true; ; first = false {
		var m frame
		err := upstream.RecvMsg(&m)
		if err != nil {
			client.SetTrailer(upstream.Trailer())
			return ended(err)
		}
		if first {
			header, err := upstream.Header() // it has come before the message
			if err == nil {
				err = client.SetHeader(header)
			}
			if err != nil {
				return err
			}
		}
		if err := client.SendMsg(&m); err != nil {
			return err
		}
	}
}
