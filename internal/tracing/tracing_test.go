package tracing

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// patience bounds waits for what has to happen.
const patience = 60 * time.Second

// receiver is a collector.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	address string
	server  *grpc.Server

	mu       sync.Mutex
	resource map[string]string
	spans    []*tracepb.Span
}

func (r *receiver) Export(_ context.Context, q *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range q.GetResourceSpans() {
		for _, a := range rs.GetResource().GetAttributes() {
			r.resource[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			r.spans = append(r.spans, ss.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// collect serves a collector at an address.
func collect(t testing.TB, address string) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{address: l.Addr().String(), server: grpc.NewServer(), resource: map[string]string{}}
	collector.RegisterTraceServiceServer(r.server, r)
	serve(t, r.server, l)
	return r
}

func serve(t testing.TB, s *grpc.Server, l net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// traced opens tracing and a server whose calls it traces.
func traced(t testing.TB, o Options) (*Tracing, grpc_health_v1.HealthClient) {
	t.Helper()
	tr, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return tr, called(t, tr)
}

// called serves health checks whose calls are traced by tr, each with two phases.
func called(t testing.TB, tr *Tracing) grpc_health_v1.HealthClient {
	t.Helper()
	phases := grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		start := time.Now()
		p := measure.StartPhases(start, measure.Checking)
		p.At(measure.Applying, start.Add(time.Millisecond))
		p.At(measure.Answering, start.Add(3*time.Millisecond))
		if tr != nil {
			tr.Phases(ctx, p)
		}
		return next(ctx, req)
	})
	s := grpc.NewServer(append(tr.ServerOptions(), phases)...)
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, l)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

func check(t testing.TB, c grpc_health_v1.HealthClient, traceparent string) {
	t.Helper()
	ctx := t.Context()
	if traceparent != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent)
	}
	if _, err := c.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
}

func closed(t testing.TB, tr *Tracing) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tr.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkACall is a call that does nothing: what is left between the cases is the cost of tracing.
func BenchmarkACall(b *testing.B) {
	calls := func(b *testing.B, c grpc_health_v1.HealthClient) {
		b.ReportAllocs()
		for b.Loop() {
			check(b, c, "")
		}
	}
	b.Run("untraced", func(b *testing.B) { calls(b, called(b, nil)) })
	for name, rate := range map[string]int{"none": 0, "all": million} {
		b.Run("sampled="+name, func(b *testing.B) {
			tr, c := traced(b, Options{Address: collect(b, "127.0.0.1:0").address, Service: "etcd", PerMillion: rate,
				Logger: slog.New(slog.DiscardHandler)})
			calls(b, c)
			closed(b, tr)
		})
	}
}

const (
	theirTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	theirSpan  = "00f067aa0ba902b7"
)

func TestACallIsASpanBelowThatOfItsClientWithItsPhasesBelowIt(t *testing.T) {
	t.Parallel()
	r := collect(t, "127.0.0.1:0")
	tr, c := traced(t, Options{Address: r.address, Service: "etcd", Instance: "one", Logger: slog.New(slog.DiscardHandler)})
	check(t, c, "00-"+theirTrace+"-"+theirSpan+"-01")
	check(t, c, "00-"+strings.Repeat("ab", 16)+"-"+theirSpan+"-00") // its client wants no trace
	check(t, c, "")
	closed(t, tr)

	if r.resource["service.name"] != "etcd" || r.resource["service.instance.id"] != "one" {
		t.Errorf("the member is %v", r.resource)
	}
	var names []string
	var call *tracepb.Span
	for _, s := range r.spans {
		if names = append(names, s.GetName()); s.GetName() == "grpc.health.v1.Health/Check" {
			call = s
		}
		if got := hex.EncodeToString(s.GetTraceId()); got != theirTrace {
			t.Errorf("span %s is of trace %s", s.GetName(), got)
		}
	}
	slices.Sort(names)
	if want := []string{"apply", "check", "grpc.health.v1.Health/Check"}; !slices.Equal(names, want) {
		t.Fatalf("got spans %q, want %q", names, want)
	}
	if got := hex.EncodeToString(call.GetParentSpanId()); got != theirSpan || call.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the call's parent is %s, its kind %s", got, call.GetKind())
	}
	for _, s := range r.spans {
		if s != call && !bytes.Equal(s.GetParentSpanId(), call.GetSpanId()) {
			t.Errorf("%s does not stand below the call", s.GetName())
		}
		if took := s.GetEndTimeUnixNano() - s.GetStartTimeUnixNano(); s.GetName() == "apply" && took != uint64(2*time.Millisecond) {
			t.Errorf("applying took %d ns", took)
		}
	}
}

func TestTheSamplingRateSaysHowManyTracesBeginHere(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate, least, most int
	}{{0, 0, 0}, {million, 60, 60}} {
		r := collect(t, "127.0.0.1:0")
		tr, client := traced(t, Options{Address: r.address, Service: "etcd", PerMillion: c.rate, Logger: slog.New(slog.DiscardHandler)})
		for range 20 {
			check(t, client, "")
		}
		closed(t, tr)
		if n := len(r.spans); n < c.least || n > c.most {
			t.Errorf("at %d in a million, 20 calls made %d spans, want %d to %d", c.rate, n, c.least, c.most)
		}
		if _, ok := r.resource["service.instance.id"]; ok {
			t.Error("an instance that has no name has one")
		}
	}
}

// TestADeadCollectorCostsALineInTheLog makes more spans than are kept while nobody takes them.
func TestADeadCollectorCostsALineInTheLog(t *testing.T) {
	t.Parallel()
	var log lines
	tr, c := traced(t, Options{Address: "127.0.0.1:1", // nobody is there
		Service: "etcd", PerMillion: million,
		Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range queueMax/3 + batchMax {
		check(t, c, "")
	}
	closed(t, tr)
	if n := strings.Count(log.String(), "cannot send traces"); n != 1 {
		t.Errorf("%d lines tell of it:\n%s", n, log.String())
	}
}

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// answering is an exporter that answers the same to everything.
type answering struct{ err error }

func (a answering) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return a.err }
func (a answering) Shutdown(context.Context) error                             { return nil }

func TestTheLogSaysWhenTheCollectorIsBack(t *testing.T) {
	t.Parallel()
	var log lines
	p := &patient{address: "there", log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, err := range []error{nil, context.DeadlineExceeded, context.DeadlineExceeded, nil, nil} {
		p.SpanExporter = answering{err}
		if got := p.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 3)); got != nil {
			t.Errorf("got %v", got)
		}
	}
	text := log.String()
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, "cannot send traces") || !strings.Contains(text, "dropped-spans=6") {
		t.Errorf("the log is:\n%s", text)
	}
}
