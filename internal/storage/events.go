package storage

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2"
)

// logger passes Pebble's words to slog and its fatal errors to the failure.
type logger struct {
	log     *slog.Logger
	failure *failure
}

// Infof implements pebble.Logger. Pebble is talkative: its news are ours only for debugging.
func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, args...))
	}
}

// Errorf implements pebble.Logger.
func (l logger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. See the package's part on failures for what happens when it returns.
func (l logger) Fatalf(format string, args ...any) {
	fatal := fatalError{text: fmt.Sprintf("in %s: ", l.failure.dir) + fmt.Sprintf(format, args...)}
	for _, a := range args {
		if cause, ok := a.(error); ok {
			fatal.cause = cause
		}
	}
	l.failure.fail(fatal)
}

// fatalError keeps the cause that Pebble only prints.
type fatalError struct {
	text  string
	cause error // may be nil
}

// Error implements error.
func (e fatalError) Error() string { return e.text }

// Unwrap gives errors.Is the cause.
func (e fatalError) Unwrap() error { return e.cause }

// listener returns what Pebble tells about its background work. begins is called when a flush begins, ended after each flush with its tables, and flushed, which may be nil, gets a token.
func listener(log *slog.Logger, f *failure, stall *stallWatch, measures *Measures, begins func(bytes uint64), ended func([]pebble.TableInfo), flushed chan<- struct{}) *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			f.fail(explain(f.dir, "flushing or compacting", err))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			f.fail(Corruptf(f.dir, "reading %s: %w", info.Path, info.Details))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			log.Warn("writes wait for flushes or compactions", "dir", f.dir, "reason", info.Reason)
			measures.Stalls.Inc()
			stall.begin(info.Reason)
		},
		WriteStallEnd: stall.end,
		DiskSlow: func(info pebble.DiskSlowInfo) {
			log.Warn("the disk is slow", "dir", f.dir, "file", info.Path, "operation", info.OpType.String(), "duration", info.Duration)
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			log.Warn("the disk is almost full", "dir", f.dir, "available_bytes", info.AvailBytes, "total_bytes", info.TotalBytes)
		},
		FlushBegin: func(info pebble.FlushInfo) { begins(info.InputBytes) },
		FlushEnd: func(info pebble.FlushInfo) {
			measures.Flushes.Took(info.TotalDuration)
			ended(info.Output)
			// Pebble holds its locks here, hence the channel. An error is also said of a flush without any key.
			if flushed == nil || info.Err != nil || f.raised.Load() {
				return
			}
			select {
			case flushed <- struct{}{}:
			default:
			}
		},
	}
}

// stallWatch fails the database when one write stall lasts longer than max.
type stallWatch struct {
	clock   clock.Clock
	max     time.Duration
	failure *failure

	mu    sync.Mutex // guards timer; nothing is called while it is held but the clock
	timer clock.Timer
}

func (s *stallWatch) begin(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
	s.timer = s.clock.AfterFunc(s.max, func() {
		s.failure.fail(fmt.Errorf("in %s: writes have been waiting for %s (%s)", s.failure.dir, s.max, reason))
	})
}

func (s *stallWatch) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
}

func (s *stallWatch) stopLocked() {
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}
