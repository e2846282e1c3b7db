package embed

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewZapLoggerBuilder returns a value for Config.ZapLoggerBuilder: the member logs to lg, as far as its level goes.
func NewZapLoggerBuilder(lg *zap.Logger) func(*Config) error {
	return func(c *Config) error {
		c.SlogLogger = slog.New(&zapHandler{core: lg.Core()})
		return nil
	}
}

// zapHandler passes records on to a logger of zap. It is not changed once it is made.
type zapHandler struct {
	core  zapcore.Core
	group string // of the attributes to come, with a dot behind each name
}

// zapLevel rounds a level down to one that zap knows.
func zapLevel(l slog.Level) zapcore.Level {
	switch {
	case l >= slog.LevelError:
		return zapcore.ErrorLevel
	case l >= slog.LevelWarn:
		return zapcore.WarnLevel
	case l >= slog.LevelInfo:
		return zapcore.InfoLevel
	}
	return zapcore.DebugLevel
}

// Enabled implements slog.Handler.
func (h *zapHandler) Enabled(_ context.Context, l slog.Level) bool {
	return h.core.Enabled(zapLevel(l))
}

// Handle implements slog.Handler.
func (h *zapHandler) Handle(_ context.Context, r slog.Record) error {
	entry := h.core.Check(zapcore.Entry{Level: zapLevel(r.Level), Time: r.Time, Message: r.Message}, nil)
	if entry == nil {
		return nil
	}
	var fields []zapcore.Field
	r.Attrs(func(a slog.Attr) bool {
		fields = appendFields(fields, h.group, a)
		return true
	})
	entry.Write(fields...)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *zapHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var fields []zapcore.Field
	for _, a := range attrs {
		fields = appendFields(fields, h.group, a)
	}
	return &zapHandler{core: h.core.With(slices.Clip(fields)), group: h.group}
}

// WithGroup implements slog.Handler.
func (h *zapHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &zapHandler{core: h.core, group: h.group + name + "."}
}

// appendFields adds an attribute, and those of a group under its name and theirs.
func appendFields(fields []zapcore.Field, group string, a slog.Attr) []zapcore.Field {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		return append(fields, zap.Any(group+a.Key, v.Any()))
	}
	if a.Key != "" {
		group += a.Key + "."
	}
	for _, one := range v.Group() {
		fields = appendFields(fields, group, one)
	}
	return fields
}
