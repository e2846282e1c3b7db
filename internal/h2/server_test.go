package h2_test

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

// echo is a service that says what it hears, in calls of every form.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(_ any, ctx context.Context, decode func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
		m := new(wrapperspb.BytesValue)
		if err := decode(m); err != nil {
			return nil, err
		}
		if string(m.Value) == "fail" {
			return nil, status.Error(codes.DataLoss, "gone: ä%")
		}
		md, _ := metadata.FromIncomingContext(ctx)
		if v := md.Get("want-header"); len(v) > 0 {
			if err := grpc.SetHeader(ctx, metadata.Pairs("got", v[0])); err != nil {
				return nil, err
			}
		}
		return m, nil
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Both", ClientStreams: true, ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		for {
			m := new(wrapperspb.BytesValue)
			if err := s.RecvMsg(m); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := s.SendMsg(m); err != nil {
				return err
			}
		}
	}}},
}

func serve(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	s := h2.NewServer(h2.Options{Codec: encoding.GetCodecV2(proto.Name), MaxRecvBytes: 16 << 20, Workers: 64})
	s.RegisterService(&echo, struct{}{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); err != nil {
			tb.Error(err)
		}
	})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		s.GracefulStop()
		wg.Wait()
	})
	return conn
}

func TestCallsOfEveryFormAreServed(t *testing.T) {
	t.Parallel()
	conn := serve(t)
	for _, size := range []int{0, 1, 100, 16 << 10, 100 << 10, 5 << 20} {
		in, out := wrapperspb.Bytes([]byte(strings.Repeat("x", size))), new(wrapperspb.BytesValue)
		var header metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), "want-header", "yes")
		if err := conn.Invoke(ctx, "/test.Echo/Unary", in, out, grpc.Header(&header)); err != nil || len(out.Value) != size || header.Get("got")[0] != "yes" {
			t.Fatalf("%d bytes: %d, %v, %v", size, len(out.Value), header, err)
		}
	}
	err := conn.Invoke(t.Context(), "/test.Echo/Unary", wrapperspb.Bytes([]byte("fail")), new(wrapperspb.BytesValue))
	if status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "gone: ä%" {
		t.Error(err)
	}
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Echo/Both")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		in, out := wrapperspb.Bytes(make([]byte, i*3000)), new(wrapperspb.BytesValue)
		if err := s.SendMsg(in); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(out); err != nil || len(out.Value) != i*3000 {
			t.Fatal(len(out.Value), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(new(wrapperspb.BytesValue)); err != io.EOF {
		t.Error(err)
	}
}

func TestManyCallsShareAConnection(t *testing.T) {
	t.Parallel()
	conn := serve(t)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			for range 20 {
				in, out := wrapperspb.Bytes(make([]byte, i*10)), new(wrapperspb.BytesValue)
				if err := conn.Invoke(t.Context(), "/test.Echo/Unary", in, out); err != nil || len(out.Value) != i*10 {
					t.Error(len(out.Value), err)
					return
				}
			}
		})
	}
	wg.Wait()
}
