package ctl

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// runCommand runs a command that reaches no server.
func runCommand(program string, environ []string, args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = Run(context.Background(), Process{Program: program, Args: args, Environ: environ, Stdout: &out, Stderr: &err})
	return status, out.String(), err.String()
}

func everyCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, visit)
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	t.Parallel()
	everyCommand(newSession(Process{Program: "etcdctl"}).tree(), func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		path := strings.Fields(c.CommandPath())[1:]
		for _, args := range [][]string{append(path, "--help"), append([]string{"help"}, path...)} {
			status, stdout, stderr := runCommand("etcdctl", nil, args...)
			if status != 0 || stderr != "" || !strings.Contains(stdout, "\nUsage:\n  "+c.CommandPath()) {
				t.Errorf("%q: %d, %q, %q", args, status, stdout, stderr)
			}
		}
	})
}

func TestTheCommandsAreEtcdctls(t *testing.T) {
	t.Parallel()
	const want = "alarm auth check compaction completion defrag del downgrade elect endpoint get lease lock make-mirror member " +
		"move-leader options put role snapshot txn user version watch"
	root := newSession(Process{Program: "etcdctl"}).tree()
	var got []string
	for _, c := range root.Commands() {
		got = append(got, c.Name())
	}
	if strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}

func TestUnderOurOwnName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string // beginnings
	}{
		{[]string{"bogus"}, 1, "", "Error: unknown command \"bogus\" for \"ashlar ctl\"\nRun 'ashlar ctl --help' for usage.\n"},
		{[]string{"lease"}, 0, "Lease related commands\n\nUsage:\n  ashlar ctl lease [command]\n", ""},
		{[]string{"completion", "bash"}, 0, "# bash completion V2 for ashlar ", ""},
		{[]string{"version"}, 0, "etcdctl version: 3.7.1\nAPI version: 3.7\n", ""},
	} {
		status, stdout, stderr := runCommand("ashlar ctl", nil, c.args...)
		if status != c.status || !strings.HasPrefix(stdout, c.stdout) || !strings.HasPrefix(stderr, c.stderr) {
			t.Errorf("%q: %d, %q, %q", c.args, status, stdout, stderr)
		}
	}
}

// TestWhatIsWrongIsFoundInEtcdctlsOrder, before anything is sent.
func TestWhatIsWrongIsFoundInEtcdctlsOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           []string
		status         int
		stdout, stderr string // a beginning, and a part
	}{
		{[]string{"--help", "-w", "fields"}, 0, "The client of an Ashlar or etcd cluster.\n", ""},
		{[]string{"--help", "--command-timeout", "x"}, 1, "", `Error: invalid argument "x" for "--command-timeout" flag`},
		{[]string{"get", "k", "--print-value-only", "-w", "bogus"}, 4, "", "Error: unsupported output format\n"},
		{[]string{"get", "k", "--count-only", "-w", "bogus"}, 4, "", "Error: unsupported output format\n"},
		{[]string{"get", "k", "--count-only", "--endpoints", "127.0.0.1:0", "--command-timeout", "1ms"}, 1, "", "Error: context deadline exceeded\n"},
		{[]string{"watch", "a", "b", "c", "-w", "bogus"}, 4, "", "Error: unsupported output format\n"},
	} {
		status, stdout, stderr := runCommand("etcdctl", nil, c.args...)
		if status != c.status || !strings.HasPrefix(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) { // beside what is logged
			t.Errorf("%q: %d, %q, %q", c.args, status, stdout, stderr)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	// A format that is not known fails after the variables were read, and before anything is sent.
	const unknown = "Error: unsupported output format\n"
	for name, c := range map[string]struct {
		environ []string
		args    []string
		status  int
		stderr  string // a part of it
	}{
		"a variable":                      {[]string{"ETCDCTL_WRITE_OUT=bogus"}, []string{"get", "k"}, 4, unknown},
		"a flag":                          {nil, []string{"get", "k", "-w", "bogus"}, 4, unknown},
		"an empty variable beside a flag": {[]string{"ETCDCTL_WRITE_OUT="}, []string{"get", "k", "-w", "bogus"}, 4, unknown},
		"a variable and its flag":         {[]string{"ETCDCTL_WRITE_OUT=json"}, []string{"get", "k", "-w", "bogus"}, 1, `"flag":"--write-out","variable":"ETCDCTL_WRITE_OUT"`},
		"a variable that cannot be read":  {[]string{"ETCDCTL_HEX=maybe"}, []string{"get", "k", "-w", "bogus"}, 4, `"variable":"ETCDCTL_HEX"`},
		"a variable of no flag":           {[]string{"ETCDCTL_BOGUS=1"}, []string{"get", "k", "-w", "bogus"}, 4, `"variable":"ETCDCTL_BOGUS"`},
		"a flag that has no variable":     {[]string{"ETCDCTL_PREFIX=true"}, []string{"get", "k", "-w", "bogus"}, 4, `"variable":"ETCDCTL_PREFIX"`},
		"commands that need no settings":  {[]string{"ETCDCTL_WRITE_OUT=json"}, []string{"version", "-w", "json"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, _, stderr := runCommand("etcdctl", c.environ, c.args...)
			if status != c.status || !strings.Contains(stderr, c.stderr) {
				t.Errorf("got %d, %q", status, stderr)
			}
		})
	}
}
