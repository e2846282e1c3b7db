package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/accept"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/lockpb"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/tlsconf"
	"github.com/ashlar-kv/ashlar/internal/web"
)

const (
	// stopGrace is how long requests under way may take when the proxy stops.
	stopGrace = 5 * time.Second
	// headerTimeout and idleTimeout bound what a silent HTTP client holds.
	headerTimeout, idleTimeout = 10 * time.Second, 2 * time.Minute
	// headersMax bounds the headers of a request, tokens among them; gRPC refuses more.
	headersMax = 64 << 10
	// recvLeast is what a request may have at least, and recvMore what it may have over what is passed on.
	recvLeast, recvMore = 4 << 20, 512 << 10
)

// serverSettings say how clients are served.
type serverSettings struct {
	space       namespace
	ordering    bool // serializable reads never go back
	logRequests bool
	streamsMax  uint32
	sendMax     int // bytes of a request that is passed on
	pingMin     time.Duration
	pingTime    time.Duration // 0: no pings
	pingTimeout time.Duration
	advertise   string
	prefix      string
	ttl         int64
	follow      time.Duration // 0: never
	titles      string        // empty: the proxy owns no keys
	ownSeconds  int64         // of the lease that it owns them by
	pages       pages         // without the fields that New fills in
	clock       clock.Clock
	log         *slog.Logger
}

// server is a gRPC proxy.
type server struct {
	up      *upstream
	grpc    *grpc.Server
	http    []*http.Server
	pages   *pages
	hub     *hub
	leases  *leases
	cache   *cache
	others  handlers
	stop    context.CancelFunc // ends what is coalesced
	running sync.WaitGroup
	failed  chan error
	itself  *grpc.ClientConn
	log     *slog.Logger
}

// newServer makes a proxy in front of up, which it closes when it stops.
func newServer(s serverSettings, up *upstream) (*server, error) {
	ctx, stop := context.WithCancel(context.Background())
	m, newest := &measures{}, &order{}
	c := newCache(s.clock, m)
	p := &server{up: up, stop: stop, failed: make(chan error, 8), log: s.log, cache: c,
		hub:    newHub(ctx, etcdserverpb.NewWatchClient(up), s.space, c, newest, m, s.log),
		leases: newLeases(ctx, etcdserverpb.NewLeaseClient(up))}
	p.grpc = grpc.NewServer(s.options(p.handle)...)
	own, itself, err := rpc.Local()
	if err != nil {
		stop()
		return nil, errors.Join(err, up.Close())
	}
	p.itself = itself
	p.pages = &s.pages
	p.pages.upstream, p.pages.itself, p.pages.measures, p.pages.log = up, itself, m, s.log
	p.pages.endpoints = up.members
	p.others = handlers{
		etcdserverpb.Watch_Watch_FullMethodName: func(stream grpc.ServerStream) error {
			return p.hub.Watch(&grpc.GenericServerStream[etcdserverpb.WatchRequest, etcdserverpb.WatchResponse]{ServerStream: stream})
		},
		etcdserverpb.Lease_LeaseKeepAlive_FullMethodName: func(stream grpc.ServerStream) error {
			return p.leases.keepAlive(&grpc.GenericServerStream[etcdserverpb.LeaseKeepAliveRequest, etcdserverpb.LeaseKeepAliveResponse]{ServerStream: stream})
		},
	}
	keys := &kv{up: up, space: s.space, cache: p.cache, order: newest, ordered: s.ordering}
	if s.titles != "" {
		keys.owner = newOwner(up, s.space, s.titles, s.ownSeconds, newest, s.clock, s.log)
		p.running.Go(func() { keys.owner.run(ctx) })
	}
	all := &members{up: up, space: s.space, advertise: s.advertise, prefix: s.prefix, ttl: s.ttl, clock: s.clock, log: s.log}
	for _, h := range []handlers{keys.handlers(), namespaced(up, s.space), all.handlers()} {
		for method, one := range h {
			p.others[method] = one
		}
	}
	p.serveGRPC(own)
	if s.prefix != "" {
		p.running.Go(func() { all.register(ctx) })
	}
	if s.follow > 0 {
		p.running.Go(func() { all.follow(ctx, s.follow) })
	}
	return p, nil
}

// options are those of the gRPC server.
func (s *serverSettings) options(handle grpc.StreamHandler) []grpc.ServerOption {
	if s.logRequests {
		handle = logged(s.log, handle)
	}
	streams := s.streamsMax
	if streams == 0 {
		streams = math.MaxUint32
	}
	recv := max(recvLeast, min(orMost(s.sendMax), math.MaxInt32-recvMore)+recvMore)
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()), grpc.UnknownServiceHandler(handle), grpc.Creds(rpc.Credentials()),
		grpc.MaxRecvMsgSize(recv), grpc.MaxSendMsgSize(math.MaxInt32), grpc.MaxConcurrentStreams(streams), grpc.MaxHeaderListSize(headersMax),
		grpc.WaitForHandlers(true),
	}
	if s.pingMin > 0 {
		options = append(options, grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: s.pingMin}))
	}
	if s.pingTime > 0 && s.pingTimeout > 0 {
		options = append(options, grpc.KeepaliveParams(keepalive.ServerParameters{Time: s.pingTime, Timeout: s.pingTimeout}))
	}
	return options
}

// handle serves every method. After a change of rights, the end of a lease with its keys, and what locks and elections write, no answer is kept.
func (p *server) handle(srv any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	if outdates(method) {
		defer p.cache.clear()
	}
	if one, ok := p.others[method]; ok {
		return one(stream)
	}
	return forwarder{p.up}.forward(srv, stream)
}

// outdates tells whether a method may make answers old, besides those of KV.
func outdates(method string) bool {
	switch method {
	case etcdserverpb.Auth_Authenticate_FullMethodName, lockpb.Election_Leader_FullMethodName, lockpb.Election_Observe_FullMethodName:
		return false
	case etcdserverpb.Lease_LeaseRevoke_FullMethodName:
		return true
	}
	service := func(d *grpc.ServiceDesc) bool { return strings.HasPrefix(method, "/"+d.ServiceName+"/") }
	return service(&etcdserverpb.Auth_ServiceDesc) || service(&lockpb.Lock_ServiceDesc) || service(&lockpb.Election_ServiceDesc)
}

// logged says of each request what came of it. Keys, values and tokens are never logged.
func logged(log *slog.Logger, handle grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		from := ""
		if who, ok := peer.FromContext(stream.Context()); ok {
			from = who.Addr.String()
		}
		log.Info("request begins", "method", method, "client", from)
		err := handle(srv, stream)
		log.Info("request ends", "method", method, "client", from, "code", status.Code(err).String(), "error", err)
		return err
	}
}

func (p *server) serveGRPC(l net.Listener) {
	p.running.Go(func() {
		if err := p.grpc.Serve(l); err != nil {
			p.fail(err)
		}
	})
}

func (p *server) serveHTTP(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)}
	web.Prepare(s)
	p.http = append(p.http, s)
	p.running.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.fail(err)
		}
	})
}

func (p *server) fail(err error) {
	select {
	case p.failed <- err:
	default: // one reason is enough
	}
}

// serve serves clients on l, with TLS if c is given.
func (p *server) serve(l net.Listener, c *tls.Config) {
	if c != nil {
		l = tlsconf.Listen(l, c, p.log)
	}
	forGRPC, forHTTP := web.Split(l)
	p.serveGRPC(forGRPC)
	p.serveHTTP(forHTTP, p.pages.all())
}

// serveMetrics serves health and metrics alone.
func (p *server) serveMetrics(l net.Listener, c *tls.Config) {
	if l = accept.Patient(l); c != nil {
		l = tlsconf.Listen(l, c, p.log)
	}
	p.serveHTTP(l, p.pages.observation())
}

// close ends requests under way, after a grace time, and all connections.
func (p *server) close() error {
	p.stop()
	grace, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	var errs []error
	for _, s := range p.http {
		if s.Shutdown(grace) != nil {
			errs = append(errs, s.Close())
		}
	}
	defer context.AfterFunc(grace, p.grpc.Stop)()
	p.grpc.GracefulStop()
	p.hub.running.Wait()
	p.leases.running.Wait()
	errs = append(errs, p.itself.Close())
	p.running.Wait()
	return errors.Join(append(errs, p.up.Close())...)
}
