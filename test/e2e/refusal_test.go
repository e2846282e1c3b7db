package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// unreadableStatus is the exit status for a command line that cannot be read, as opposed to one that makes no sense.
// It is etcd's.
const unreadableStatus = 2

// TestBadConfigurationIsRefusedBeforeAnyFileIsTouched: one clear line that names what is wrong, exit status 1, nothing created.
func TestBadConfigurationIsRefusedBeforeAnyFileIsTouched(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		args       []string
		env        []string
		says       string
		unreadable bool
	}{
		{"an unknown flag", []string{"--no-such-flag"}, nil, "no-such-flag", true},
		{"a value that is no number", []string{"--snapshot-count", "many"}, nil, "snapshot-count", true},
		{"a client URL without a scheme", []string{"--listen-client-urls", "localhost"}, nil, "localhost", true},
		{"a peer URL with a path", []string{"--listen-peer-urls", "http://127.0.0.1:2380/path"}, nil, "path", true},
		{"an unknown cluster state", []string{"--initial-cluster-state", "maybe"}, nil, "initial-cluster-state", true},
		{"an election timeout below five heartbeats", []string{"--heartbeat-interval", "100", "--election-timeout", "200"}, nil, "election-timeout", false},
		{"a cluster without this member", []string{"--name", "a", "--initial-cluster", "b=http://127.0.0.1:2380"}, nil, "initial-cluster", false},
		{"a configuration file that is not there", []string{"--config-file", "missing.yaml"}, nil, "missing.yaml", false},
		{"an argument that is no flag", []string{"something"}, nil, "something", false},
		{"a flag and its variable", []string{"--name", "a"}, []string{"ETCD_NAME=b"}, "ETCD_NAME", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			args := append([]string{program.path}, test.args...)
			s := process.Start(t, dir, test.env, args...)
			s.WaitEnd(t)
			want := 1
			if test.unreadable {
				want = unreadableStatus
				if !program.ours {
					want = 2
				}
			}
			if code := s.State().ExitCode(); code != want {
				t.Errorf("ended with %v, want exit status %d", s.State(), want)
			}
			if !program.ours {
				return // etcd logs several lines, and creates its directory before it has looked at everything
			}
			said := strings.TrimSuffix(s.Log.String(), "\n")
			if said == "" || strings.Contains(said, "\n") || !strings.Contains(said, test.says) || s.Output.String() != "" {
				t.Errorf("want one line on stderr that names %q, got:\n%s\non stdout:\n%s", test.says, said, s.Output.String())
			}
			entries, err := os.ReadDir(dir)
			noError(t, err)
			if len(entries) != 0 {
				t.Errorf("files were created: %v", entries)
			}
		})
	}
}

// TestDirectoryInUseIsRefused: two processes never open one directory, and the first does not notice the attempt.
func TestDirectoryInUseIsRefused(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd waits for the lock without an end")
	}
	first := newMember(t)
	s := first.start(t)
	second := newMember(t)
	second.dataDir = first.dataDir
	refused := second.launch(t)
	refused.WaitEnd(t)
	if code := refused.State().ExitCode(); code != 1 {
		t.Errorf("the second server ended with %v, want exit status 1", refused.State())
	}
	said := refused.Log.String()
	if !strings.Contains(said, first.dataDir) || !strings.Contains(said, "in use") {
		t.Errorf("the second server does not say that %s is in use:\n%s", first.dataDir, said)
	}
	_, err := first.connect(t).Put(within(t, process.Patience), "key", "value")
	noError(t, err)
	s.stop(t)
}

// TestAddressInUseIsRefused: a server that cannot listen ends and says where, and leaves its directory usable.
func TestAddressInUseIsRefused(t *testing.T) {
	t.Parallel()
	first := newMember(t)
	first.start(t)
	second := newMember(t)
	own := second.client
	second.client = first.client
	refused := second.launch(t)
	refused.WaitEnd(t)
	address := strings.TrimPrefix(first.client, "http://")
	if code := refused.State().ExitCode(); code != 1 || !strings.Contains(refused.Log.String(), address) {
		t.Errorf("want exit status 1 and a message that names %s, got %v and\n%s", address, refused.State(), refused.Log.Tail(5))
	}
	second.client = own
	second.start(t).stop(t)
}
