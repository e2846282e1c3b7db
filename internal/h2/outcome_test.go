package h2_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// outcome is all that a client sees of a unary call.
type outcome struct {
	status          *status.Status
	body            []byte
	header, trailer metadata.MD
}

// call makes a unary call of a method of lab.Lab.
func call(t testing.TB, conn *grpc.ClientConn, method string, in []byte, opts ...grpc.CallOption) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return callIn(ctx, conn, "/lab.Lab/"+method, in, opts...)
}

func callIn(ctx context.Context, conn *grpc.ClientConn, path string, in []byte, opts ...grpc.CallOption) outcome {
	var o outcome
	out := new(message)
	err := conn.Invoke(ctx, path, &message{in}, out, append(opts, grpc.Header(&o.header), grpc.Trailer(&o.trailer))...)
	o.status, o.body = status.Convert(err), out.data
	return o
}

// String tells the outcome in one line, without what depends on the run.
func (o outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %q", o.status.Code(), o.status.Message())
	if len(o.status.Details()) > 0 {
		fmt.Fprintf(&b, " details=%v", o.status.Details())
	}
	fmt.Fprintf(&b, " header=%s trailer=%s", told(o.header), told(o.trailer))
	return b.String()
}

// told is metadata in a fixed order.
func told(md metadata.MD) string {
	if len(md) == 0 {
		return "-"
	}
	var parts []string
	for k, v := range md {
		parts = append(parts, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(parts)
	return "{" + strings.Join(parts, " ") + "}"
}

// stacks are those of all goroutines, for a test that hangs.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// deadline is the context of a call that has long enough.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a stream of a method of lab.Lab.
func open(ctx context.Context, t testing.TB, conn *grpc.ClientConn, method string, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/lab.Lab/"+method, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// say sends a message that must be taken.
func say(t testing.TB, s grpc.ClientStream, data []byte) {
	t.Helper()
	if err := s.SendMsg(&message{data}); err != nil {
		t.Fatalf("SendMsg: %v", err)
	}
}

// hear takes the next message or the end of the stream.
func hear(s interface{ RecvMsg(any) error }) ([]byte, error) {
	m := new(message)
	err := s.RecvMsg(m)
	return m.data, err
}

// grpcCode is the code of an error of gRPC.
func grpcCode(err error) codes.Code { return status.Code(err) }
