// Package logging opens the log of a server: where it goes, which lines pass, and what a line looks like.
//
// A line in JSON starts with level, ts, caller and msg, the shape of etcd's log, so that what reads one reads
// the other; the attributes follow. The console format holds the same separated by tabs.
//
// Invariant: one record is one Write of one line, under a lock that all handlers of a log share. It is held
// while writing, so a stalled disk stalls those who log; outputs are meant to be local.
//
// The package refuses to be a default: nobody here touches slog.SetDefault, loggers are passed on.
package logging

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"gopkg.in/natefinch/lumberjack.v2"
)

// Rotation says when a log file is closed and the next begun.
type Rotation struct {
	// MaxSize is in megabytes, MaxAge in days; MaxAge and MaxBackups of 0 keep everything.
	MaxSize, MaxAge, MaxBackups int
	// LocalTime names files by local time instead of UTC; Compress packs them.
	LocalTime, Compress bool
}

// Options say what log to open.
type Options struct {
	// Outputs are "stdout", "stderr", "default" (which is stderr) or paths of files, which are appended to.
	Outputs []string
	// Level is debug, info, warn, error, dpanic, panic or fatal, in either case; see ParseLevel.
	Level string
	// Console chooses the console format instead of JSON.
	Console bool
	// Rotation rotates the file among Outputs; nil lets it grow.
	Rotation *Rotation
	// Stdout and Stderr are what those names mean.
	Stdout, Stderr io.Writer
}

// LevelFatal is the level of the line that a program which cannot go on ends with.
const LevelFatal = slog.LevelError + 8

// ErrLevel is returned for a level that ParseLevel does not know.
var ErrLevel = errors.New("unrecognized level")

// ParseLevel returns the level of that name. Levels above error, which etcd has, pass only fatal lines.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "dpanic", "panic", "fatal":
		return LevelFatal, nil
	}
	return 0, fmt.Errorf("%w: %q", ErrLevel, name)
}

// Open opens the log. Closing the returned Closer closes its files; the logger must not be used afterwards.
func Open(o Options) (*slog.Logger, io.Closer, error) {
	level, err := ParseLevel(o.Level)
	if err != nil {
		return nil, nil, err
	}
	var writers []io.Writer
	var open files
	for _, name := range o.Outputs {
		switch name {
		case "default", "stderr":
			writers = append(writers, o.Stderr)
		case "stdout":
			writers = append(writers, o.Stdout)
		default:
			f, err := openFile(name, o.Rotation)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("opening log output %q: %w", name, err), open.Close())
			}
			writers, open = append(writers, f), append(open, f)
		}
	}
	out := writers[0]
	if len(writers) > 1 {
		out = io.MultiWriter(writers...)
	}
	return slog.New(NewHandler(out, level, o.Console)), open, nil
}

func openFile(name string, r *Rotation) (io.WriteCloser, error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil || r == nil {
		return f, err
	}
	// lumberjack opens at the first write; the file was opened so that a wrong path fails at the start.
	if err := f.Close(); err != nil {
		return nil, err
	}
	return &lumberjack.Logger{Filename: name, MaxSize: r.MaxSize, MaxAge: r.MaxAge, MaxBackups: r.MaxBackups,
		LocalTime: r.LocalTime, Compress: r.Compress}, nil
}

// files are the open files of a log.
type files []io.Closer

// Close closes them all and reports every failure.
func (fs files) Close() error {
	var errs []error
	for _, f := range fs {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
