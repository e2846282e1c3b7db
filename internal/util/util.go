package util

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// Process is what the operating system hands to the program.
type Process struct {
	// Program is what the command line calls itself: "etcdutl" or "ashlar util".
	Program string
	// Args are the arguments after the program's name.
	Args []string
	// Stdout and Stderr receive what is printed.
	Stdout, Stderr io.Writer
}

// Run does what the arguments ask for and returns the exit status. It returns early when ctx ends. It may be called
// from several goroutines, each with streams of its own.
func Run(ctx context.Context, p Process) int {
	if t := progress.NewTerminal(p.Stderr); t != nil {
		p.Stderr, ctx = t, progress.On(ctx, t)
	}
	s := &session{Process: p, log: slog.New(logging.NewHandler(p.Stderr, slog.LevelInfo, true))}
	root := s.tree()
	root.SetArgs(p.Args)
	cmd, err := root.ExecuteContextC(ctx)
	return s.end(cmd, err)
}

// session is one run of one command.
type session struct {
	Process
	log     *slog.Logger
	format  string        // --write-out
	timeout time.Duration // --timeout
}

// Exit statuses, etcdutl's.
const (
	statusError     = 1   // whatever went wrong with files
	statusFeature   = 4   // an output format is not known, or not for this command
	statusArguments = 128 // arguments are wrong
)

// failure is how a command ends when it does not succeed.
type failure struct {
	status int
	err    error
	usage  bool // asks for the command's usage below the error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

func badArguments(format string, args ...any) error {
	return &failure{status: statusArguments, err: fmt.Errorf(format, args...)}
}

func badFeature(format string, args ...any) error {
	return &failure{status: statusFeature, err: fmt.Errorf(format, args...)}
}

// wrongUse marks an error of a command line that the flag library found.
func wrongUse(err error) error { return &failure{status: statusError, err: err, usage: true} }

// end prints what is to be said about err and returns the exit status. cmd is the command that failed.
func (s *session) end(cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) {
		f = &failure{status: statusError, err: err}
		f.usage = strings.HasPrefix(err.Error(), "required flag(s)") // the library's own check
	}
	fmt.Fprintln(s.Stderr, "Error:", f.err)
	switch {
	case f.usage:
		fmt.Fprintln(s.Stderr, cmd.UsageString())
	case strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(s.Stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return f.status
}
