// Package tracing sends traces of requests to a collector, by OTLP over gRPC, as etcd does.
//
// Each gRPC call is a span whose parent comes with the request (W3C trace context), and the phases of a unary call (package
// measure) are spans below it. A request that its client has sampled is traced; of those that begin here a share is.
//
// # Bounds
//
// Nothing waits for a collector. Spans that have ended stand in a queue of bounded length, one goroutine sends them in batches, and
// what finds the queue full is dropped. A collector that is dead or slow costs a line in the log when that is noticed, and one
// when it is over.
//
// # What it refuses to do
//
// It uses none of the library's globals: no default provider, no error handler. Spans hold no keys, values, names of users or tokens.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

const (
	// queueMax bounds the spans that wait to be sent, batchMax those of one message.
	queueMax = 2048
	batchMax = 512
	// sendTimeout is how long the collector may take for a message.
	sendTimeout = 5 * time.Second
	// million is what shares of traces are counted in.
	million = 1_000_000
	// scope names the spans of phases.
	scope = "github.com/ashlar-kv/ashlar/internal/tracing"
)

// Options say what is traced and where it goes.
type Options struct {
	// Address is the collector's, host and port. It is spoken to without TLS, as by etcd.
	Address string
	// Service and Instance name this member in the traces; an empty Instance is left out.
	Service, Instance string
	// PerMillion is how many of a million traces that begin here are kept. Those of clients that want a trace always are.
	PerMillion int
	// Logger is required.
	Logger *slog.Logger
}

// Tracing is a connection to a collector. It may be used from any goroutine. A nil one traces nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
	phases   trace.Tracer
}

// Open prepares to send traces. It does not wait for the collector; an error is one of what is asked for.
func Open(ctx context.Context, o Options) (*Tracing, error) {
	to, err := otlptracegrpc.New(ctx, otlptracegrpc.WithInsecure(), otlptracegrpc.WithEndpoint(o.Address),
		otlptracegrpc.WithTimeout(sendTimeout), otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}))
	if err != nil {
		return nil, fmt.Errorf("trace to %s: %w", o.Address, err)
	}
	attrs := []attribute.KeyValue{attribute.String("service.name", o.Service)}
	if o.Instance != "" {
		attrs = append(attrs, attribute.String("service.instance.id", o.Instance))
	}
	root := sdktrace.NeverSample()
	if o.PerMillion > 0 {
		root = sdktrace.TraceIDRatioBased(float64(o.PerMillion) / million)
	}
	p := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&patient{SpanExporter: to, address: o.Address, log: o.Logger},
			sdktrace.WithMaxQueueSize(queueMax), sdktrace.WithMaxExportBatchSize(batchMax), sdktrace.WithExportTimeout(sendTimeout)),
		sdktrace.WithResource(resource.NewSchemaless(attrs...)),
		sdktrace.WithSampler(sdktrace.ParentBased(root)),
	)
	return &Tracing{provider: p, phases: p.Tracer(scope)}, nil
}

// ServerOptions make a span of each call of a gRPC server.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
	))}
}

// Phases adds a span for each phase of the request of ctx, if that is traced.
func (t *Tracing) Phases(ctx context.Context, p *measure.Phases) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	p.Each(func(name string, begin time.Time, took time.Duration) {
		_, s := t.phases.Start(ctx, name, trace.WithTimestamp(begin))
		s.End(trace.WithTimestamp(begin.Add(took)))
	})
}

// Close sends what waits, as long as ctx lasts, and ends the connection.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}
