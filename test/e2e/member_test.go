package e2e

import (
	"crypto/tls"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// member is a data directory with its addresses. It is served by one process at a time.
type member struct {
	dataDir     string
	client      string // URL
	peer        string // URL
	workingDir  string
	withoutData bool     // leave --data-dir out
	extra       []string // more flags
	prefix      []string // a command that runs the server, such as nsenter
	binary      string
	tls         *tls.Config // what clients use; nil without TLS
	last        *server
}

// newMember is a member that has not run yet, in a directory of its own.
func newMember(tb testing.TB, extra ...string) *member {
	tb.Helper()
	dir := tb.TempDir()
	m := &member{
		dataDir:    filepath.Join(dir, "data"),
		client:     "http://" + process.FreeAddress(tb),
		peer:       "http://" + process.FreeAddress(tb),
		workingDir: dir,
		extra:      extra,
		binary:     program.path,
	}
	tb.Cleanup(func() {
		if tb.Failed() && m.last != nil {
			tb.Logf("end of the log of the last server on %s:\n%s", m.dataDir, m.last.Log.Tail(30))
		}
	})
	return m
}

func (m *member) args() []string {
	name := "default"
	if i := slices.Index(m.extra, "--name"); i >= 0 {
		name = m.extra[i+1]
	}
	args := []string{
		"--listen-client-urls", m.client, "--advertise-client-urls", m.client,
		"--listen-peer-urls", m.peer, "--initial-advertise-peer-urls", m.peer,
		"--initial-cluster", name + "=" + m.peer,
	}
	if !m.withoutData {
		args = append(args, "--data-dir", m.dataDir)
	}
	return append(args, m.extra...)
}

// start runs a server on the member and waits until it serves.
func (m *member) start(tb testing.TB) *server {
	tb.Helper()
	s := m.launch(tb)
	s.WaitReady(tb)
	return s
}

// launch runs a server on the member and waits for nothing.
func (m *member) launch(tb testing.TB) *server {
	tb.Helper()
	command := append(slices.Clone(m.prefix), m.binary)
	m.last = &server{process.Start(tb, m.workingDir, nil, append(command, m.args()...)...)}
	return m.last
}

// server is one process that serves a member.
type server struct{ *process.Process }

// stop asks the server to end, waits, and fails unless it ended well.
func (s *server) stop(tb testing.TB) {
	tb.Helper()
	s.Stop(tb)
	status := s.State().Sys().(syscall.WaitStatus)
	// etcd sends itself the signal again once it is done.
	if !program.ours && status.Signaled() && status.Signal() == syscall.SIGTERM {
		return
	}
	if code := s.State().ExitCode(); code != 0 {
		tb.Fatalf("the server ended with %v after SIGTERM, want exit status 0", s.State())
	}
}
