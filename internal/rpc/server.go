package rpc

import (
	"context"
	"log/slog"
	"math"
	"net"
	"runtime"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress, as with etcd
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/h2"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

// overheadBytes is what a message may have over MaxRequestBytes before gRPC itself refuses it.
const overheadBytes = 512 << 10

// workersPerCPU is how many goroutines with a grown stack are kept for each CPU. Most requests wait in them for the
// disk or a quorum; more requests than that get a goroutine of their own.
const workersPerCPU = 512

// Options describes a server.
type Options struct {
	// MaxRequestBytes is the limit of an encoded log entry; gRPC takes 512 KiB more.
	MaxRequestBytes int
	// MaxConcurrentStreams bounds the requests under way on one connection; 0 is no bound.
	MaxConcurrentStreams uint32
	// KeepaliveMinTime is how often a client may ping; one that does so more often is cut off. 0 is five minutes.
	KeepaliveMinTime time.Duration
	// KeepaliveInterval is after how long without a sign of life a connection is pinged, and KeepaliveTimeout how
	// long the answer may take. 0 in either turns it off.
	KeepaliveInterval, KeepaliveTimeout time.Duration
	// SlowRequest is how long a request may take before it is logged; 0 is never.
	SlowRequest time.Duration
	// Trace is told where the time of each unary request went, in the context of the request; nil when nobody asks.
	Trace func(ctx context.Context, phases *measure.Phases)
	// HasLeader says whether the member knows a leader, for clients that demand one. Required.
	HasLeader func() bool
	// LeaderChanged returns a channel that is closed at the next change of HasLeader's answer, or earlier. With it the
	// streams of clients that demand a leader end once there was none for LeaderPatience of Clock; nil ends none.
	LeaderChanged  func() <-chan struct{}
	LeaderPatience time.Duration
	Clock          clock.Clock
	// Learner says whether the member is a learner, which serves little; nil for never.
	Learner func() bool
	// Measures count requests; nil is for nobody.
	Measures *Measures
	// Trusted returns why nothing may be answered from this member's state, nil while it may; nil for always.
	Trusted func() error
	// Gate decides what clients may do; nil lets everyone do everything.
	Gate *Gate
	// Audit says what is written down of requests; nil writes nothing.
	Audit *Auditing
	// Logger is required.
	Logger *slog.Logger
	// Credentials make the handshake of every connection; nil for none.
	Credentials credentials.TransportCredentials
	// Extra are further options of grpc-go's server, and Stock says that there will be more that only it understands, such as services that
	// are registered with a *grpc.Server. With either it serves, in place of our own.
	Extra []grpc.ServerOption
	Stock bool
}

// Server serves gRPC: a *h2.Server, or a *grpc.Server.
type Server interface {
	grpc.ServiceRegistrar
	// GetServiceInfo returns what is registered, by the names of services.
	GetServiceInfo() map[string]grpc.ServiceInfo
	// Serve serves the connections of a listener until Stop or GracefulStop; after them it returns grpc.ErrServerStopped.
	Serve(net.Listener) error
	// GracefulStop ends the server after the calls under way, Stop ends them too. Both wait for their handlers.
	GracefulStop()
	Stop()
}

// NewServer returns a server without services, with the codec that KV needs.
func NewServer(o Options) Server {
	if o.Measures == nil {
		o.Measures = NewMeasures(false)
	}
	g := &guard{measures: o.Measures, hasLeader: o.HasLeader, slow: o.SlowRequest, trace: o.Trace, log: o.Logger, gate: o.Gate, learner: o.Learner, audit: o.Audit,
		trusted: o.Trusted}
	if o.LeaderChanged != nil {
		g.lost = &leaderless{hasLeader: o.HasLeader, changed: o.LeaderChanged, patience: o.LeaderPatience, clock: o.Clock}
	}
	if o.Stock || len(o.Extra) > 0 {
		return o.stock(g)
	}
	if o.KeepaliveInterval == 0 || o.KeepaliveTimeout == 0 {
		o.KeepaliveInterval, o.KeepaliveTimeout = 0, 0
	}
	return h2.NewServer(h2.Options{
		Codec: newCodec(o.Measures), Unary: g.unary, Stream: g.stream, Credentials: o.Credentials,
		MaxRecvBytes: o.MaxRequestBytes + overheadBytes, MaxConcurrentStreams: o.MaxConcurrentStreams,
		KeepaliveMinTime: o.KeepaliveMinTime, KeepaliveInterval: o.KeepaliveInterval, KeepaliveTimeout: o.KeepaliveTimeout,
		Buffers: requestPool, Workers: workersPerCPU * runtime.GOMAXPROCS(0),
	})
}

// stock returns grpc-go's server.
func (o Options) stock(g *guard) *grpc.Server {
	streams := o.MaxConcurrentStreams
	if streams == 0 {
		streams = math.MaxUint32
	}
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec(o.Measures)),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(o.MaxRequestBytes + overheadBytes),
		grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.MaxConcurrentStreams(streams),
		grpc.NumStreamWorkers(uint32(workersPerCPU * runtime.GOMAXPROCS(0))),
		// What a request reads is closed after Stop.
		grpc.WaitForHandlers(true),
	}
	if o.KeepaliveMinTime > 0 {
		opts = append(opts, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: o.KeepaliveMinTime}))
	}
	if o.KeepaliveInterval > 0 && o.KeepaliveTimeout > 0 {
		opts = append(opts, grpc.KeepaliveParams(keepalive.ServerParameters{Time: o.KeepaliveInterval, Timeout: o.KeepaliveTimeout}))
	}
	if o.Credentials != nil {
		opts = append(opts, grpc.Creds(o.Credentials))
	}
	return grpc.NewServer(append(opts, o.Extra...)...)
}

// Services are the services of a member.
type Services struct {
	KV          *KV
	Maintenance *Maintenance
	Cluster     *Cluster
	Watch       *Watch
	Lease       *Lease
	Auth        *Auth
	Lock        *Lock
	Election    *Election
}

// Register adds all services to a server that NewServer has made; those that are nil answer Unimplemented to each
// method. It returns the health service, which says SERVING from the start.
func (s Services) Register(r grpc.ServiceRegistrar) *health.Server {
	s.KV.Register(r)
	s.Maintenance.Register(r)
	s.Cluster.Register(r)
	if s.Watch != nil {
		s.Watch.Register(r)
	} else {
		register(r, etcdserverpb.Watch_ServiceDesc, etcdserverpb.UnimplementedWatchServer{})
	}
	if s.Lease != nil {
		s.Lease.Register(r)
	} else {
		register(r, etcdserverpb.Lease_ServiceDesc, etcdserverpb.UnimplementedLeaseServer{})
	}
	if s.Auth != nil {
		s.Auth.Register(r)
	} else {
		register(r, etcdserverpb.Auth_ServiceDesc, etcdserverpb.UnimplementedAuthServer{})
	}
	if s.Lock != nil {
		s.Lock.Register(r)
	}
	if s.Election != nil {
		s.Election.Register(r)
	}
	h := health.NewServer()
	grpc_health_v1.RegisterHealthServer(r, h)
	return h
}
