package ctl

import (
	"context"
	"io"
)

// Process is what the operating system hands to the program.
type Process struct {
	// Program is what the command line calls itself: "etcdctl" or "ashlar ctl".
	Program string
	// Args are the arguments after the program's name.
	Args []string
	// Environ holds the environment as NAME=value.
	Environ []string
	// Stdin is read by commands that take input. Nil stands for empty input.
	Stdin io.Reader
	// Stdout and Stderr receive what is printed; commands that run others hand them on.
	Stdout, Stderr io.Writer
}

// Run does what the arguments ask for and returns the exit status. It returns early when ctx ends. It may be called
// from several goroutines, each with streams of its own.
func Run(ctx context.Context, p Process) int {
	s := newSession(p)
	defer s.close()
	return s.execute(ctx)
}

// execute runs the command that the arguments name, and returns the exit status.
func (s *session) execute(ctx context.Context) int {
	root := s.tree()
	root.SetArgs(s.Args)
	cmd, err := root.ExecuteContextC(ctx)
	return s.end(cmd, err)
}
