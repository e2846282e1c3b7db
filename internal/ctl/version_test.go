package ctl

import (
	"bytes"
	"context"
	"testing"
)

// An output that takes nothing is no mistake of the command line: there is no word of its usage.
func TestWhatCannotBePrintedIsToldAlone(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"completion", "bash"}} {
		var err bytes.Buffer
		status := Run(context.Background(), Process{Program: "etcdctl", Args: args, Stdout: full{}, Stderr: &err})
		if got := err.String(); status != statusError || got != "Error: no space\n" {
			t.Errorf("%v: status %d and %q", args, status, got)
		}
	}
}
