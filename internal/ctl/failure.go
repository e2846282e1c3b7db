package ctl

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit statuses, etcdctl's.
const (
	statusError       = 1   // the cluster refused, or could not be reached
	statusConnection  = 2   // no client could be made: authentication; lease queries
	statusInput       = 3   // what was read from standard input is wrong
	statusFeature     = 4   // an output format or the value of a flag is not known
	statusInterrupted = 5   // a snapshot or a watch ended early
	statusSignal      = 130 // ended by SIGINT
	statusArguments   = 128 // arguments are wrong
)

// failure is how a command ends when it does not succeed.
type failure struct {
	status int
	// err is printed as "Error: ..."; nil prints nothing, for commands that have said what is wrong.
	err error
	// usage asks for the command's usage below the error.
	usage bool
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit status %d", f.status)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func fail(status int, err error) error { return &failure{status: status, err: err} }

func badArguments(format string, args ...any) error {
	return fail(statusArguments, fmt.Errorf(format, args...))
}

func badInput(format string, args ...any) error {
	return fail(statusInput, fmt.Errorf(format, args...))
}

func badFeature(format string, args ...any) error {
	return fail(statusFeature, fmt.Errorf(format, args...))
}

// silent ends the program with that status and no further word.
func silent(status int) error { return &failure{status: status} }

// wrongUse marks an error of a command line that the flag library found.
func wrongUse(err error) error { return &failure{status: statusError, err: err, usage: true} }

func (s *session) errorWord() string { return s.paintOn(s.Stderr).red("Error:") }

// end prints what is to be said about err and returns the exit status. cmd is the command that failed.
func (s *session) end(cmd *cobra.Command, err error) int {
	if err == nil {
		return 0
	}
	var f *failure
	if !errors.As(err, &f) { // the library's own: no such command
		fmt.Fprintf(s.Stderr, "%s %v\nRun '%s --help' for usage.\n", s.errorWord(), err, cmd.CommandPath())
		return statusError
	}
	if f.err != nil {
		fmt.Fprintln(s.Stderr, s.errorWord(), f.err)
	}
	if f.usage {
		fmt.Fprintln(s.Stderr, cmd.UsageString())
	}
	return f.status
}
