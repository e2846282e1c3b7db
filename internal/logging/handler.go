package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timeLayout is that of etcd's log: UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// Handler writes records as lines in the shape of etcd's log. It may be used from any goroutine.
type Handler struct {
	out     *output
	level   slog.Leveler
	console bool
	// attrs renders the attributes alone, as a JSON object, into out.attrs. REQUIRES: out.mu held.
	attrs slog.Handler
}

// output is shared by all handlers derived from one. mu guards its other fields and is held for one Write.
type output struct {
	mu    sync.Mutex
	sink  sink
	attrs bytes.Buffer
	line  bytes.Buffer
}

// NewHandler returns a handler that writes records of at least that level to w, one line and one Write each.
func NewHandler(w io.Writer, level slog.Leveler, console bool) *Handler {
	out := &output{sink: plain{w}}
	everything := slog.Level(-1 << 20)
	return &Handler{out: out, level: level, console: console,
		attrs: slog.NewJSONHandler(&out.attrs, &slog.HandlerOptions{Level: everything, ReplaceAttr: onlyAttrs})}
}

// noMessage marks the message that onlyAttrs takes out; no caller's attribute holds it.
const noMessage = "\x00"

// onlyAttrs takes slog's own level and message out, and spells durations as text.
func onlyAttrs(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 {
		if a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString && a.Value.String() == noMessage {
			return slog.Attr{}
		}
		if _, ok := a.Value.Any().(slog.Level); ok && a.Key == slog.LevelKey {
			return slog.Attr{}
		}
	}
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// Enabled tells whether records of that level are written.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// WithAttrs returns a handler that adds attrs to every record.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = h.attrs.WithAttrs(attrs)
	return &c
}

// WithGroup returns a handler that puts the attributes of records into a group.
func (h *Handler) WithGroup(name string) slog.Handler {
	c := *h
	c.attrs = h.attrs.WithGroup(name)
	return &c
}

// Handle writes one record.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	bare := slog.NewRecord(time.Time{}, r.Level, noMessage, 0)
	r.Attrs(func(a slog.Attr) bool { bare.AddAttrs(a); return true })
	o := h.out
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attrs.Reset()
	if err := h.attrs.Handle(ctx, bare); err != nil {
		return err
	}
	attrs := bytes.TrimSpace(o.attrs.Bytes()) // {…}
	o.line.Reset()
	ts, from := r.Time.UTC().Format(timeLayout), caller(r.PC)
	if h.console {
		o.consoleLine(r, ts, from, attrs)
	} else {
		o.jsonLine(r, ts, from, attrs)
	}
	return o.sink.WriteLine(r.Level, from, o.line.Bytes())
}

func (o *output) jsonLine(r slog.Record, ts, from string, attrs []byte) {
	b := &o.line
	b.WriteString(`{"level":"` + levelName(r.Level) + `","ts":"` + ts + `"`)
	if from != "" {
		b.WriteString(`,"caller":`)
		b.Write(quote(from))
	}
	b.WriteString(`,"msg":`)
	b.Write(quote(r.Message))
	if len(attrs) > len("{}") {
		b.WriteByte(',')
		b.Write(attrs[1:])
	} else {
		b.WriteByte('}')
	}
	b.WriteByte('\n')
}

func (o *output) consoleLine(r slog.Record, ts, from string, attrs []byte) {
	parts := []string{ts, levelName(r.Level)}
	if from != "" {
		parts = append(parts, from)
	}
	parts = append(parts, strings.ReplaceAll(r.Message, "\n", " "))
	if len(attrs) > len("{}") {
		parts = append(parts, string(attrs))
	}
	o.line.WriteString(strings.Join(parts, "\t"))
	o.line.WriteByte('\n')
}

func quote(s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // not reached: json.Marshal replaces what is not UTF-8
		return []byte(`""`)
	}
	return q
}

func levelName(l slog.Level) string {
	switch {
	case l >= LevelFatal:
		return "fatal"
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// caller returns package/file.go:line of a program counter, or "".
func caller(pc uintptr) string {
	if pc == 0 {
		return ""
	}
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	if f.File == "" {
		return ""
	}
	dir, file := filepath.Split(f.File)
	return filepath.Base(dir) + "/" + file + ":" + strconv.Itoa(f.Line)
}
