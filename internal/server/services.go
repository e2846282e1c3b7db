package server

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/metrics"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/tracing"
	"github.com/ashlar-kv/ashlar/internal/version"
	"github.com/ashlar-kv/ashlar/internal/web"
)

const (
	// stopGrace is how long requests under way may take when the server stops.
	stopGrace = 5 * time.Second
	// tracesGrace is how long the last traces may take.
	tracesGrace = 2 * time.Second
	// headerTimeout and idleTimeout bound what a silent HTTP client holds.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// leaderPatience is how many election timeouts without a leader end the streams of clients that demand one, as
	// in etcd.
	leaderPatience = 3
)

// services serves the clients of a member, gRPC and HTTP on the same addresses.
type services struct {
	grpc    rpc.Server
	http    *http.Server
	metrics *http.Server // of addresses for metrics and health alone
	broken  chan error   // an error that ends serving
	watches *rpc.Watch
	leases  *rpc.Lease
	conns   *rpc.Conns
	line    *rpc.Line
	gateway *gateway
	tracing *tracing.Tracing // nil when nothing is traced
	log     *slog.Logger
	wg      sync.WaitGroup
}

// newServices makes the services of a member, whose requests are written down in requests unless it is nil.
func newServices(cfg *config.Config, m *member.Member, host *lending, peers func() []*peer.Measures, requests *audit.Log, log *slog.Logger) (*services, error) {
	gateway, err := newGateway(cfg)
	if err != nil {
		return nil, err
	}
	tracing, err := openTracing(cfg, log)
	if err != nil {
		return nil, errors.Join(err, gateway.close())
	}
	gate := rpc.NewGate(m)
	if cfg.ClientTLS.ClientCertAuth {
		gate.CertificateUser = rpc.CertificateUser
	}
	o := newObservation(cfg)
	pages := web.Options{
		Versions: func() web.Versions {
			return web.Versions{Server: version.Etcd, Cluster: m.Members().Version(), Storage: m.Members().Version()}
		},
		Member:  health(m),
		Origins: cfg.Origins, Hosts: cfg.HostWhitelist, Gateway: gateway.handler(), Beside: host.handler,
		Metrics: metrics.Handler(o.sources(cfg, m, peers), log), Health: &o.health,
		Vars: func() map[string]any { return variables(m) }, Profiles: cfg.EnablePprof,
	}
	front := grpcOptions(cfg, m, log)
	front.Clock, front.Gate, front.Measures, front.Audit = host.Clock, gate, o.calls, auditing(cfg, requests)
	trace(&front, tracing)
	front.Extra, front.Stock = append(front.Extra, host.Options...), host.Register != nil
	s := &services{
		conns:   rpc.NewConns(),
		grpc:    rpc.NewServer(front),
		tracing: tracing,
		http:    httpServer(web.Handler(pages), log),
		metrics: httpServer(web.MetricsHandler(pages), log),
		broken:  make(chan error, 2*len(cfg.ListenClientURLs)+len(cfg.ListenClientHTTPURLs)+len(cfg.ListenMetricsURLs)+2),
		watches: rpc.NewWatch(m, rpc.WatchOptions{ProgressInterval: cfg.WatchProgressInterval, Clock: host.Clock,
			Authorize: gate.Watch, Measures: o.calls}),
		leases:  rpc.NewLease(m),
		gateway: gateway, log: log,
	}
	web.Prepare(s.http)
	web.Prepare(s.metrics)
	s.register(cfg, m, gate, o.calls, host.Clock)
	host.register(s.grpc)
	o.calls.Know(s.grpc.GetServiceInfo())
	return s, nil
}

// register makes the services that clients call by gRPC those of its server.
func (s *services) register(cfg *config.Config, m *member.Member, gate *rpc.Gate, measures *rpc.Measures, c clock.Clock) {
	kv := rpc.NewKV(m, rpc.KVOptions{TxnOpsMax: txnOpsMax(cfg), Conns: s.conns, Gate: gate, Measures: measures, ReserveCache: m.ReserveCache})
	s.leases.Permit, s.leases.PermitKeys = gate.Lease, gate.LeaseKeys
	s.leases.ShareBudget(kv)
	s.line = rpc.NewLine(kv, s.leases, m.Hub(), c)
	members := rpc.NewCluster(m)
	members.Gate = gate
	maintenance := rpc.NewMaintenance(m, func() rpc.Status { return status(cfg, m) })
	maintenance.Alarms, maintenance.Gate = m, gate
	rpc.Services{
		KV:          kv,
		Maintenance: maintenance,
		Cluster:     members,
		Watch:       s.watches,
		Lease:       s.leases,
		Auth:        rpc.NewAuth(m, gate),
		Lock:        rpc.NewLock(s.line),
		Election:    rpc.NewElection(s.line),
	}.Register(s.grpc)
}

// txnOpsMax is the limit of operations for the KV service: 0 allows none, as in etcd.
func txnOpsMax(cfg *config.Config) int {
	if cfg.MaxTxnOps == 0 {
		return -1
	}
	return int(min(cfg.MaxTxnOps, math.MaxInt32))
}

// grpcOptions are what cfg and the member alone say of the gRPC server.
func grpcOptions(cfg *config.Config, m *member.Member, log *slog.Logger) rpc.Options {
	return rpc.Options{
		MaxRequestBytes:      int(cfg.MaxRequestBytes),
		MaxConcurrentStreams: cfg.MaxConcurrentStreams,
		KeepaliveMinTime:     cfg.GRPCKeepAliveMinTime,
		KeepaliveInterval:    cfg.GRPCKeepAliveInterval,
		KeepaliveTimeout:     cfg.GRPCKeepAliveTimeout,
		SlowRequest:          cfg.WarningUnaryRequestDuration,
		HasLeader:            m.HasLeader,
		Learner:              m.IsLearner,
		Trusted:              m.Trusted,
		LeaderChanged:        m.Node().LeaderChanged,
		LeaderPatience:       leaderPatience * cfg.ElectionTimeout,
		Logger:               log,
		Credentials:          rpc.Credentials(),
	}
}

func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

func status(cfg *config.Config, m *member.Member) rpc.Status {
	st := m.Status()
	return rpc.Status{
		ClusterID: m.ClusterID(), MemberID: m.ID(), Term: st.Term, Revision: st.Revision,
		EtcdVersion: version.Etcd, StorageVersion: m.Members().Version(),
		Leader: st.Leader, CommitIndex: st.Committed, AppliedIndex: st.Applied,
		DBSize: st.DiskBytes, InUse: st.InUseBytes, Quota: cfg.Quota(), Learner: st.Learner,
		Errors: alarmTexts(m.Alarms().List()), Downgrade: m.Members().Downgrade(),
	}
}

// serve serves the listeners until stop; encrypt makes of each of them, by its index, one with TLS where there is to be any. With
// addresses for HTTP alone in plain, which have their TLS, the listeners serve gRPC alone. An error that ends serving comes on broken.
func (s *services) serve(listeners []net.Listener, encrypt func(int, net.Listener) net.Listener, plain []net.Listener) {
	if s.gateway != nil {
		s.serveGRPC(s.gateway.listener)
	}
	for i, l := range listeners {
		l = encrypt(i, s.conns.Listen(l))
		if len(plain) > 0 {
			s.serveGRPC(l)
			continue
		}
		forGRPC, forHTTP := web.Split(l)
		s.serveGRPC(forGRPC)
		s.serveHTTP(s.http, forHTTP)
	}
	s.serveHTTP(s.http, plain...)
}

func (s *services) serveGRPC(l net.Listener) {
	s.wg.Go(func() {
		if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.broken <- err
		}
	})
}

// stop takes no new connections, ends watches, lets other requests under way end for stopGrace, and then ends them
// too.
func (s *services) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	ended := context.AfterFunc(ctx, s.grpc.Stop)
	defer ended()
	s.wg.Go(s.grpc.GracefulStop)
	s.watches.Stop()
	s.leases.Stop()
	s.line.Stop()
	s.gateway.end()
	err := errors.Join(closed(s.metrics), shut(ctx, s.http))
	s.wg.Wait()
	flush, give := context.WithTimeout(context.Background(), tracesGrace)
	defer give()
	if err := s.tracing.Close(flush); err != nil {
		s.log.Warn("the last traces were not sent", "error", err)
	}
	return errors.Join(err, s.gateway.close())
}

// closed ends a server and its requests. That its listener was closed before, as by a member that ends before it is ready, is no error.
func closed(server *http.Server) error { return unlessClosed(server.Close()) }

// shut lets requests under way end as long as ctx lasts, and then ends them.
func shut(ctx context.Context, server *http.Server) error {
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return closed(server)
	}
	return unlessClosed(err)
}

func unlessClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
