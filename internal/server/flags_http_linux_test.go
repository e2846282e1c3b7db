package server

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// answers wants an answer at one of the lab's sockets to hold a text.
func answers(t *testing.T, l *flagLab, socket, path, want string) {
	t.Helper()
	resp, err := l.get(t, socket, http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
		t.Errorf("%s: no %s in %.2000s (%v)", resp.Status, want, body, err)
	}
}

// posts wants a POST to the gateway to be answered with a status and an allowed origin.
func posts(t *testing.T, l *flagLab, change func(*http.Request), status int, origin string) {
	t.Helper()
	resp, err := l.get(t, "http", http.MethodPost, "/v3/kv/range", change)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != status || got != origin {
		t.Errorf("got %s for the origin %q, want %d and %q", resp.Status, got, status, origin)
	}
}

func from(origin string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Origin", origin) }
}

// httpProofs are of what the member serves by HTTP.
var httpProofs = map[string]proof{
	"listen-client-http-urls": func(t *testing.T, l *flagLab, _ string) {
		answers(t, l, "http", "/version", `"etcdserver":"`)
		if resp, err := l.get(t, "client", http.MethodGet, "/version", nil); err == nil {
			_ = resp.Body.Close()
			t.Errorf("the addresses for gRPC answer HTTP: %s", resp.Status)
		}
	},
	"listen-metrics-urls": func(t *testing.T, l *flagLab, _ string) {
		answers(t, l, "metrics", "/metrics", "etcd_server_has_leader 1")
		answers(t, l, "metrics", "/health", `"health":"true"`)
	},
	"metrics": func(t *testing.T, l *flagLab, _ string) {
		answers(t, l, "metrics", "/metrics", "grpc_server_handling_seconds_bucket")
	},
	"enable-pprof": func(t *testing.T, l *flagLab, _ string) { answers(t, l, "http", "/debug/pprof/", "goroutine") },
	"enable-grpc-gateway": func(t *testing.T, l *flagLab, name string) {
		posts(t, l, inTrace, http.StatusOK, "")
		cfg := parsed(t, "--"+name+"=false")
		if g, err := newGateway(&cfg); err != nil || g.handler() != nil {
			t.Errorf("there is one without it: %v", err)
		}
	},
	"cors": func(t *testing.T, l *flagLab, _ string) {
		posts(t, l, from("http://page.example:80"), http.StatusOK, "http://page.example:80")
		posts(t, l, from("http://other.example:80"), http.StatusOK, "")
	},
	"host-whitelist": func(t *testing.T, l *flagLab, _ string) {
		posts(t, l, nil, http.StatusOK, "")
		posts(t, l, func(r *http.Request) { r.Host = "bad.example" }, http.StatusMisdirectedRequest, "")
	},
}

// collector takes traces.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string

	mu       sync.Mutex
	resource map[string]string
	spans    map[string]int
	traces   map[string]bool // in hexadecimal
}

func collect(t *testing.T) *collector {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: lis.Addr().String(), resource: map[string]string{}, spans: map[string]int{}, traces: map[string]bool{}}
	s := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(s, c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// Export implements the service.
func (c *collector) Export(_ context.Context, q *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range q.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			c.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, s := range r.GetScopeSpans() {
			for _, span := range s.GetSpans() {
				c.spans[span.GetName()]++
				c.traces[hex.EncodeToString(span.GetTraceId())] = true
			}
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// sent shows that the lab's collector knows something; the last traces come when the member ends.
func sent(known func(c *collector) bool) proof {
	return func(t *testing.T, l *flagLab, _ string) {
		l.collector.mu.Lock()
		defer l.collector.mu.Unlock()
		if !known(l.collector) {
			t.Errorf("the collector has %v of %v", l.collector.spans, l.collector.resource)
		}
	}
}

// traceOfJSON is the trace that a request in JSON belongs to.
const traceOfJSON = "4bf92f3577b34da6a3ce929d0e0e4736"

// inTrace makes a request in JSON part of it.
func inTrace(r *http.Request) {
	r.Header.Set("Grpc-Metadata-Traceparent", "00-"+traceOfJSON+"-00f067aa0ba902b7-01")
}

var tracingProofs = map[string]proof{
	"enable-distributed-tracing": func(t *testing.T, l *flagLab, name string) {
		sent(func(c *collector) bool {
			return c.spans["etcdserverpb.KV/Put"] > 0 && c.spans["raft"] > 0 && c.traces[traceOfJSON]
		})(t, l, name)
		cfg := config.Default("ashlar")
		if tr, err := openTracing(&cfg, nil); tr != nil || err != nil {
			t.Errorf("there is tracing without it: %v", err)
		}
	},
	"distributed-tracing-address":      sent(func(c *collector) bool { return len(c.spans) > 0 }),
	"distributed-tracing-service-name": sent(func(c *collector) bool { return c.resource["service.name"] == "service" }),
	"distributed-tracing-instance-id":  sent(func(c *collector) bool { return c.resource["service.instance.id"] == "instance" }),
	// No client has begun a trace, so without the rate there would be none.
	"distributed-tracing-sampling-rate": sent(func(c *collector) bool { return c.spans["etcdserverpb.KV/Put"] > 0 }),
}
