package server

import (
	"context"
	"log/slog"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/tracing"
)

// openTracing opens the tracing that cfg asks for; nil is none.
func openTracing(cfg *config.Config, log *slog.Logger) (*tracing.Tracing, error) {
	if !cfg.Tracing.Enabled {
		return nil, nil
	}
	return tracing.Open(context.Background(), tracing.Options{
		Address: cfg.Tracing.Address, Service: cfg.Tracing.Service, Instance: cfg.Tracing.Instance,
		PerMillion: cfg.Tracing.PerMillion, Logger: log,
	})
}

// trace makes a server with these options trace, unless t is nil.
func trace(o *rpc.Options, t *tracing.Tracing) {
	if t == nil {
		return
	}
	o.Extra = append(o.Extra, t.ServerOptions()...)
	o.Trace = t.Phases
}
