package h2

import (
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// Options describes a server.
type Options struct {
	// Codec encodes all messages, whatever content subtype a client names. Required.
	Codec encoding.CodecV2
	// Unary and Stream stand before every handler; nil for none.
	Unary  grpc.UnaryServerInterceptor
	Stream grpc.StreamServerInterceptor
	// Credentials make the handshake of every connection; nil for none.
	Credentials credentials.TransportCredentials
	// MaxRecvBytes is the limit of a message received, before and after decompression.
	MaxRecvBytes int
	// MaxConcurrentStreams bounds the calls under way on one connection; 0 is no bound.
	MaxConcurrentStreams uint32
	// KeepaliveMinTime is how often a client may ping; 0 is five minutes.
	KeepaliveMinTime time.Duration
	// KeepaliveInterval is after how long without a sign of life a connection is pinged, 0 is two hours and less than a second is a
	// second; and KeepaliveTimeout how long the answer may take, 0 is twenty seconds.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// Buffers is where messages received are collected; nil for gRPC's default.
	Buffers mem.BufferPool
	// Workers is how many goroutines are kept for calls to come.
	Workers int
}

const (
	keepaliveMinTime  = 5 * time.Minute
	keepaliveInterval = 2 * time.Hour
	// keepaliveIntervalMin is what shorter intervals are taken for, as by grpc-go.
	keepaliveIntervalMin = time.Second
	keepaliveTimeout     = 20 * time.Second
)

// Server serves gRPC over HTTP/2. Its methods may be called from any goroutine, but all services are registered before Serve.
type Server struct {
	o       Options
	methods map[string]*method // by path
	infos   map[string]grpc.ServiceInfo
	workers workers

	handlers sync.WaitGroup // calls under way, even of streams that have ended
	accepts  sync.WaitGroup // listeners and handshakes

	mu        sync.Mutex
	changed   *sync.Cond // a connection has ended
	serving   bool
	quit      bool // Stop or GracefulStop was called
	draining  bool
	listeners map[net.Listener]struct{} // nil once quit
	opening   map[net.Conn]struct{}     // connections before their handshake is through
	conns     map[*conn]struct{}
	stopping  chan struct{} // closed at quit
	stopped   chan struct{} // closed when Stop or GracefulStop is through
	stopOnce  sync.Once
}

// method is one method of a service.
type method struct {
	path   string
	impl   any
	unary  *grpc.MethodDesc // nil for a stream
	stream *grpc.StreamDesc
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer returns a server without services.
func NewServer(o Options) *Server {
	if o.KeepaliveMinTime <= 0 {
		o.KeepaliveMinTime = keepaliveMinTime
	}
	if o.KeepaliveInterval <= 0 {
		o.KeepaliveInterval = keepaliveInterval
	}
	o.KeepaliveInterval = max(o.KeepaliveInterval, keepaliveIntervalMin)
	if o.KeepaliveTimeout <= 0 {
		o.KeepaliveTimeout = keepaliveTimeout
	}
	if o.Buffers == nil {
		o.Buffers = mem.DefaultBufferPool()
	}
	s := &Server{
		o: o, methods: make(map[string]*method), infos: make(map[string]grpc.ServiceInfo), workers: workers{max: o.Workers},
		listeners: make(map[net.Listener]struct{}), opening: make(map[net.Conn]struct{}), conns: make(map[*conn]struct{}),
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// RegisterService implements grpc.ServiceRegistrar. It panics when impl has not the service's methods, when the service is registered
// already, or when the server serves.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if impl != nil {
		want, got := reflect.TypeOf(desc.HandlerType).Elem(), reflect.TypeOf(impl)
		if !got.Implements(want) {
			panic(fmt.Sprintf("h2: the handler of type %v does not satisfy %v", got, want))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		panic(fmt.Sprintf("h2: service %q is registered after Serve", desc.ServiceName))
	}
	if _, twice := s.infos[desc.ServiceName]; twice {
		panic(fmt.Sprintf("h2: service %q is registered twice", desc.ServiceName))
	}
	info := grpc.ServiceInfo{Metadata: desc.Metadata}
	add := func(name string, m method) {
		m.path, m.impl = "/"+desc.ServiceName+"/"+name, impl
		s.methods[m.path] = &m
	}
	for i := range desc.Methods {
		m := &desc.Methods[i]
		add(m.MethodName, method{unary: m})
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.MethodName})
	}
	for i := range desc.Streams {
		m := &desc.Streams[i]
		add(m.StreamName, method{stream: m})
		info.Methods = append(info.Methods, grpc.MethodInfo{Name: m.StreamName, IsClientStream: m.ClientStreams, IsServerStream: m.ServerStreams})
	}
	s.infos[desc.ServiceName] = info
}

// GetServiceInfo returns the services by name.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]grpc.ServiceInfo, len(s.infos))
	for name, info := range s.infos {
		out[name] = info
	}
	return out
}
