package server

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/metrics"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/version"
	"github.com/ashlar-kv/ashlar/internal/web"
)

// plainListeners are addresses of HTTP alone.
type plainListeners struct {
	clients []net.Listener // of clients; the other client addresses then serve gRPC alone
	metrics []net.Listener // of metrics and health
}

// listenPlain binds the addresses of HTTP alone, or none.
func listenPlain(ctx context.Context, cfg *config.Config) (l plainListeners, err error) {
	if l.clients, err = listen(ctx, cfg, cfg.ListenClientHTTPURLs, "HTTP clients"); err != nil {
		return l, err
	}
	if l.metrics, err = listen(ctx, cfg, cfg.ListenMetricsURLs, "metrics"); err != nil {
		err = errors.Join(err, closeAll(l.clients))
	}
	return l, err
}

func (l plainListeners) close() error { return errors.Join(closeAll(l.clients), closeAll(l.metrics)) }

// encrypt puts TLS on those that are to have it.
func (l plainListeners) encrypt(e *encryption) {
	for i, x := range l.clients {
		l.clients[i] = e.wrap(x, e.http[i])
	}
	for i, x := range l.metrics {
		l.metrics[i] = e.wrap(x, e.metrics[i])
	}
}

// observation is what a member tells of itself over HTTP.
type observation struct {
	health web.Health
	calls  *rpc.Measures
}

func newObservation(cfg *config.Config) *observation {
	return &observation{calls: rpc.NewMeasures(cfg.Metrics == "extensive")}
}

// sources returns what the metrics are read off.
func (o *observation) sources(cfg *config.Config, m *member.Member, peers func() []*peer.Measures) metrics.Sources {
	s := metrics.Sources{
		Member: m, Calls: o.calls, Peers: peers, HealthPassed: &o.health.Passed, HealthFailed: &o.health.Failed,
		EachCheck: o.health.EachCheck,
		Quota:     cfg.Quota(), Version: version.Etcd,
	}
	for _, g := range cfg.Gates() {
		s.Gates = append(s.Gates, metrics.Gate(g))
	}
	return s
}

// variables are what /debug/vars tells of the member.
func variables(m *member.Member) map[string]any {
	st := m.Status()
	return map[string]any{
		"file_descriptor_limit": metrics.FileLimit(),
		"raft.status": map[string]any{
			"id": cluster.ID(m.ID()).String(), "term": st.Term, "lead": cluster.ID(st.Leader).String(),
			"commit": st.Committed, "applied": st.Applied,
		},
	}
}

// serveHTTP serves listeners with one of the HTTP servers until stop.
func (s *services) serveHTTP(server *http.Server, ls ...net.Listener) {
	for _, l := range ls {
		s.wg.Go(func() {
			if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.broken <- err
			}
		})
	}
}
