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
	// Outputs are "stdout", "stderr", "default" (which is stderr), "systemd/journal" or paths of files, which are appended to.
	Outputs []string
	// Level is debug, info, warn, error, dpanic, panic or fatal, in either case; see ParseLevel.
	Level string
	// Switch lets the level be changed while the log is in use; it is set to Level first. nil keeps the level as it is.
	Switch *slog.LevelVar
	// Console chooses the console format instead of JSON.
	Console bool
	// Rotation rotates the file among Outputs; nil lets it grow.
	Rotation *Rotation
	// Stdout and Stderr are what those names mean.
	Stdout, Stderr io.Writer
	// Journal is the socket of journald, empty for the system's, and Identifier the name of this program in the journal.
	Journal, Identifier string
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
	if o.Switch == nil {
		o.Switch = new(slog.LevelVar)
	}
	o.Switch.Set(level)
	var out sinks
	var open files
	for _, name := range o.Outputs {
		s, closer, err := openSink(name, &o)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("opening log output %q: %w", name, err), open.Close())
		}
		if out = append(out, s); closer != nil {
			open = append(open, closer)
		}
	}
	h := NewHandler(io.Discard, o.Switch, o.Console)
	h.out.sink = out
	return slog.New(h), open, nil
}

// openSink opens one output; what is not to be closed has no closer.
func openSink(name string, o *Options) (sink, io.Closer, error) {
	switch name {
	case "default", "stderr":
		return plain{o.Stderr}, nil, nil
	case "stdout":
		return plain{o.Stdout}, nil, nil
	case JournalOutput:
		path := o.Journal
		if path == "" {
			path = journalSocket
		}
		j, err := openJournal(path, o.Identifier)
		if err != nil {
			return nil, nil, err
		}
		return j, j, nil
	}
	f, err := openFile(name, o.Rotation)
	if err != nil {
		return nil, nil, err
	}
	return plain{f}, f, nil
}

// sink takes lines with their level, and the place in the program that they come from: package/file.go:line, or "".
type sink interface {
	WriteLine(level slog.Level, from string, line []byte) error
}

// plain is a sink that wants the line alone.
type plain struct{ w io.Writer }

func (p plain) WriteLine(_ slog.Level, _ string, line []byte) error {
	_, err := p.w.Write(line)
	return err
}

// sinks are several; one that fails does not keep the line from the others.
type sinks []sink

func (ss sinks) WriteLine(level slog.Level, from string, line []byte) error {
	var errs []error
	for _, s := range ss {
		if err := s.WriteLine(level, from, line); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
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
