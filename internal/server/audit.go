package server

import (
	"log/slog"

	"github.com/ashlar-kv/ashlar/internal/audit"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// openAudit opens the audit log that cfg asks for; nil is none.
func openAudit(cfg *config.Config, log *slog.Logger) (*audit.Log, error) {
	if cfg.AuditLog.File == "" {
		return nil, nil
	}
	return audit.Open(auditOptions(cfg, log))
}

func auditOptions(cfg *config.Config, log *slog.Logger) audit.Options {
	return audit.Options{
		Path: cfg.AuditLog.File, MaxBytes: int64(cfg.AuditLog.MaxSize) << 20, Kept: int(cfg.AuditLog.MaxBackups),
		Clock: clock.Real(), Logger: log,
	}
}

// auditing says what goes into an audit log; nil without one.
func auditing(cfg *config.Config, to *audit.Log) *rpc.Auditing {
	if to == nil {
		return nil
	}
	return &rpc.Auditing{Log: to, Reads: cfg.AuditLog.Reads, Clock: clock.Real()}
}
