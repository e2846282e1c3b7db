package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// healthTimeout bounds the read that tells whether requests are answered.
	healthTimeout = time.Second
	// metricsTimeout and metricsBytesMax bound what is read of a member's metrics.
	metricsTimeout, metricsBytesMax = 10 * time.Second, 64 << 20
)

// pages are what a proxy answers to HTTP.
type pages struct {
	upstream  grpc.ClientConnInterface
	itself    grpc.ClientConnInterface // the proxy, as its clients see it
	members   *http.Client
	endpoints func() []string // those of the members, at the moment
	secure    bool            // endpoints without a scheme have TLS
	measures  *measures
	profiles  bool
	log       *slog.Logger
}

// observation serves health and metrics.
func (p *pages) observation() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", p.memberMetrics)
	mux.Handle("/proxy/metrics", promhttp.HandlerFor(p.measures.registry(), promhttp.HandlerOpts{}))
	mux.HandleFunc("/health", p.health(p.upstream, ""))
	mux.HandleFunc("/proxy/health", p.health(p.itself, "PROXY "))
	return mux
}

// all serves what observation serves, and profiles if they are wanted.
func (p *pages) all() *http.ServeMux {
	mux := p.observation()
	if p.profiles {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// health tells whether a linearizable read is answered.
func (p *pages) health(way grpc.ClientConnInterface, who string) http.HandlerFunc {
	type answer struct {
		Health string `json:"health"`
		Reason string `json:"reason"`
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		a, code := answer{Health: "true"}, http.StatusOK
		if err := answered(r.Context(), way); err != nil {
			a, code = answer{"false", fmt.Sprintf("%sGET ERROR:%v", who, err)}, http.StatusServiceUnavailable
			p.log.Warn("not healthy", "path", r.URL.Path, "reason", a.Reason)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(a) // fails only for a client that is gone
	}
}

// answered reads a key. That it may not be read is an answer too.
func answered(ctx context.Context, way grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	_, err := etcdserverpb.NewKVClient(way).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a")})
	switch status.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.Unauthenticated:
		return nil
	}
	return err
}

// memberMetrics passes on the metrics of the first member that answers, beginning with any.
func (p *pages) memberMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), metricsTimeout)
	defer cancel()
	endpoints := p.endpoints()
	for _, i := range rand.Perm(len(endpoints)) {
		text, err := p.fetch(ctx, endpoints[i])
		if err != nil {
			p.log.Warn("cannot read the metrics of a member", "endpoint", endpoints[i], "error", err)
			continue
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write(text) // fails only for a client that is gone
		return
	}
	http.Error(w, "Internal server error", http.StatusInternalServerError)
}

func (p *pages) fetch(ctx context.Context, endpoint string) (text []byte, err error) {
	if !strings.Contains(endpoint, "://") {
		scheme := "http://"
		if p.secure {
			scheme = "https://"
		}
		endpoint = scheme + endpoint
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	a, err := p.members.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", a.Status)
	}
	return io.ReadAll(io.LimitReader(a.Body, metricsBytesMax))
}
