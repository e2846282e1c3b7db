package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// outcome is what a run left behind.
type outcome struct {
	status         int
	stdout, stderr string
}

func runProgram(args []string, environ ...string) outcome {
	var stdout, stderr bytes.Buffer
	status := run(process{args: args, environ: environ, stdout: &stdout, stderr: &stderr})
	return outcome{status, stdout.String(), stderr.String()}
}

func TestTheProgramPicksByNameAndFirstArgument(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args           []string
		status         int
		stdout, stderr string // beginnings
	}{
		"our version":                     {[]string{"/bin/ashlar", "version"}, 0, "ashlar Version: ", ""},
		"our version by flag":             {[]string{"ashlar", "--version"}, 0, "ashlar Version: ", ""},
		"etcd's version under its name":   {[]string{"/usr/bin/etcd", "--version"}, 0, "etcd Version: 3.7.1\nGit SHA: ", ""},
		"help":                            {[]string{"ashlar", "server", "-h"}, 0, "Usage:\n\n  ashlar [flags]", ""},
		"the client":                      {[]string{"ashlar", "ctl", "lease", "grant"}, 128, "", "Error: lease grant command needs TTL argument\n"},
		"the offline tool":                {[]string{"ashlar", "util", "snapshot", "status"}, 128, "", "Error: snapshot status requires exactly one argument\n"},
		"the client under its name":       {[]string{"etcdctl", "version"}, 0, "etcdctl version: 3.7.1\nAPI version: 3.7\n", ""},
		"the client's completion":         {[]string{"ashlar", "__complete", "ctl", "lease", "gr"}, 0, "grant\tCreates a lease\n:4\n", "Completion ended"},
		"the offline tool under its name": {[]string{"etcdutl", "version"}, 0, "etcdutl version: 3.7.1\nAPI version: 3.7\n", ""},
		"the gateway":                     {[]string{"etcd", "gateway", "start", "--endpoints=x"}, 1, "", "etcd: error parsing endpoint \"x\"\n"},
		"the gateway's help":              {[]string{"ashlar", "gateway"}, 0, "gateway related command\n\nUsage:\n  ashlar gateway", ""},
		"the proxy":                       {[]string{"etcd", "grpc-proxy", "start", "--resolver-prefix=x"}, 1, "", "etcd: invalid resolver-ttl 0\n"},
		"an unknown flag of etcd":         {[]string{"etcd", "--bogus"}, 2, "", "flag provided but not defined: -bogus\nUsage:\n"},
		"an unknown flag of ours":         {[]string{"ashlar", "--bogus"}, 2, "", "ashlar: flag provided but not defined: -bogus; see ashlar --help\n"},
		"an unknown word":                 {[]string{"ashlar", "serve"}, 1, "", "ashlar: \"serve\" is not a valid flag\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(c.args)
			if got.status != c.status || !strings.HasPrefix(got.stdout, c.stdout) || !strings.HasPrefix(got.stderr, c.stderr) {
				t.Errorf("got %+v", got)
			}
			if c.status != 0 && c.args[0] != "etcd" && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("want one line, got %q", got.stderr)
			}
		})
	}
}

func TestBadConfigurationTouchesNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, log := filepath.Join(dir, "data"), filepath.Join(dir, "log")
	for _, bad := range []string{"--election-timeout=10", "--initial-cluster=x=http://localhost:1", "--auto-compaction-retention=x"} {
		got := runProgram([]string{"ashlar", "--data-dir=" + data, "--log-outputs=" + log, bad})
		if got.status != 1 || strings.Count(got.stderr, "\n") != 1 || got.stdout != "" {
			t.Errorf("%s: got %+v", bad, got)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v; want nothing", entries, err)
	}
}

func TestALogThatCannotBeOpenedEndsTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := runProgram([]string{"ashlar", "--data-dir=" + filepath.Join(dir, "data"),
		"--log-outputs=" + filepath.Join(dir, "no", "file")})
	if got.status != 1 || !strings.Contains(got.stderr, "opening log output") {
		t.Errorf("got %+v", got)
	}
}
