package h2_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"math"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
)

// long lets the tests that count run at their full size.
var long = flag.Bool("long", false, "run the counting tests with 100,000 calls and 1 GiB")

// patience is how long a condition may take before a test gives up. No test says that anything is faster.
var patience = 2 * time.Minute

func init() {
	flag.DurationVar(&patience, "patience", patience, "how long a condition may take before a test gives up")
}

// server is what both transports are to the tests.
type server interface {
	grpc.ServiceRegistrar
	GetServiceInfo() map[string]grpc.ServiceInfo
	Serve(net.Listener) error
	GracefulStop()
	Stop()
}

// options are of a server in a test; the zero value is one that echoes.
type options struct {
	maxRecv                          int // 0 is 4 MiB
	maxStreams                       uint32
	minPing, pingEvery, pingPatience time.Duration
	creds                            credentials.TransportCredentials
	unaryInterceptor                 grpc.UnaryServerInterceptor
	streamInterceptor                grpc.StreamServerInterceptor
	unary                            func(ctx context.Context, in []byte) ([]byte, error)
	stream                           func(grpc.ServerStream) error
}

// kind makes servers of one transport.
type kind struct {
	name string
	make func(o options) server
}

var kinds = []kind{{"grpc-go", reference}, {"h2", ours}}

// both runs a test on both transports.
func both(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// reference is grpc-go's own server, with the options that rpc gives it.
func reference(o options) server {
	if o.maxStreams == 0 {
		o.maxStreams = math.MaxUint32
	}
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(plain{}),
		grpc.MaxRecvMsgSize(o.maxRecv),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(o.maxStreams),
		grpc.NumStreamWorkers(64),
		grpc.WaitForHandlers(true),
	}
	if o.creds != nil {
		opts = append(opts, grpc.Creds(o.creds))
	}
	if o.unaryInterceptor != nil {
		opts = append(opts, grpc.UnaryInterceptor(o.unaryInterceptor))
	}
	if o.streamInterceptor != nil {
		opts = append(opts, grpc.StreamInterceptor(o.streamInterceptor))
	}
	if o.minPing > 0 {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.minPing}))
	}
	if o.pingEvery > 0 && o.pingPatience > 0 {
		opts = append(opts, grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.pingEvery, Timeout: o.pingPatience}))
	}
	return grpc.NewServer(opts...)
}

// message is a request or an answer: its bytes are those on the wire.
type message struct{ data []byte }

// plain is a codec that leaves bytes alone. Those that start with badByte it refuses, both ways.
type plain struct{}

const badByte = 0xba

var errBad = errors.New("a bad byte")

func (plain) Name() string { return "proto" }

func (plain) Marshal(v any) (mem.BufferSlice, error) {
	if a, ok := v.(*appended); ok {
		a.coded++
		return mem.BufferSlice{mem.SliceBuffer(a.data)}, nil
	}
	data := v.(*message).data
	if len(data) > 0 && data[0] == badByte {
		return nil, errBad
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

func (plain) Unmarshal(in mem.BufferSlice, v any) error {
	data := in.Materialize()
	if len(data) > 0 && data[0] == badByte {
		return errBad
	}
	v.(*message).data = data
	return nil
}

var _ encoding.CodecV2 = plain{}

// careless is the codec of clients, which sends bad bytes too. Without a name the content-type has no subtype, as that of most
// clients.
type careless struct{ plain }

func (careless) Name() string { return "" }

func (careless) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(*message).data)}, nil
}

// service describes lab.Lab for the handlers of o. Ignore is a unary method that never looks at its request.
func service(o options) *grpc.ServiceDesc {
	unary := func(name string, looks bool) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(srv any, ctx context.Context, dec func(any) error, via grpc.UnaryServerInterceptor) (any, error) {
			in := new(message)
			if looks {
				if err := dec(in); err != nil {
					return nil, err
				}
			}
			handle := func(ctx context.Context, req any) (any, error) {
				out, err := o.unary(ctx, req.(*message).data)
				if err != nil {
					return nil, err
				}
				return &message{out}, nil
			}
			if via == nil {
				return handle(ctx, in)
			}
			return via(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/lab.Lab/" + name}, handle)
		}}
	}
	stream := func(name string, in, out bool) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ClientStreams: in, ServerStreams: out,
			Handler: func(_ any, s grpc.ServerStream) error { return o.stream(s) }}
	}
	return &grpc.ServiceDesc{
		ServiceName: "lab.Lab",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{unary("Unary", true), unary("Ignore", false)},
		Streams:     []grpc.StreamDesc{stream("Server", false, true), stream("Client", true, false), stream("Bidi", true, true)},
		Metadata:    "lab.proto",
	}
}

// echoAll answers each message with itself until the client has no more.
func echoAll(s grpc.ServerStream) error {
	for {
		m := new(message)
		if err := s.RecvMsg(m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// lab is a server that serves.
type lab struct {
	server
	address net.Addr
	done    chan error // what Serve returned
}

// start serves on a free loopback port until the test has ended.
func start(t testing.TB, k kind, o options) *lab {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, k, lis, o)
}

func startOn(t testing.TB, k kind, lis net.Listener, o options) *lab {
	t.Helper()
	if o.maxRecv == 0 {
		o.maxRecv = 4 << 20
	}
	if o.unary == nil {
		o.unary = func(_ context.Context, in []byte) ([]byte, error) { return in, nil }
	}
	if o.stream == nil {
		o.stream = echoAll
	}
	l := &lab{server: k.make(o), address: lis.Addr(), done: make(chan error, 1)}
	l.RegisterService(service(o), nil)
	go func() { l.done <- l.Serve(lis) }()
	t.Cleanup(func() {
		within(t, "Stop", l.Stop)
	})
	return l
}

// within fails the test if f does not return.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return\n%s", what, stacks())
	}
}

// receive takes a value from a channel; it fails the test when none comes.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing comes\n%s", what, stacks())
		panic("unreachable: Fatalf ends the goroutine")
	}
}

// dial returns a stock client of the lab, on one connection.
func (l *lab) dial(t testing.TB, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	target := "passthrough:///" + l.address.String()
	if l.address.Network() == "unix" {
		target = "unix:" + l.address.String()
	}
	all := append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(careless{}), grpc.MaxCallRecvMsgSize(math.MaxInt32))}, opts...)
	conn, err := grpc.NewClient(target, all...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
