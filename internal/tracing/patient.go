package tracing

import (
	"context"
	"log/slog"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// patient is an exporter that has no errors: what cannot be sent is dropped. It logs when that begins and when it is over.
type patient struct {
	sdktrace.SpanExporter
	address string
	log     *slog.Logger

	// Of the goroutine that sends.
	dropped int // since it began; 0 while the collector answers
}

// ExportSpans implements sdktrace.SpanExporter. It is called by one goroutine at a time.
func (p *patient) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := p.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && p.dropped == 0:
		p.log.Warn("cannot send traces, which are dropped until it is possible", "collector", p.address, "error", err)
		fallthrough
	case err != nil:
		p.dropped += len(spans)
	case p.dropped > 0:
		p.log.Info("traces are sent again", "collector", p.address, "dropped-spans", p.dropped)
		p.dropped = 0
	}
	return nil
}
