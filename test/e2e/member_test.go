package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bounds for waits, not expectations: a shared machine may stall for seconds.
const (
	startTimeout = 60 * time.Second
	stopTimeout  = 60 * time.Second
)

// readyLine is what etcd, and we, log once clients are served; scripts of operators wait for it too.
const readyLine = "ready to serve client requests"

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
		client:     "http://" + freeAddress(tb),
		peer:       "http://" + freeAddress(tb),
		workingDir: dir,
		extra:      extra,
		binary:     program.path,
	}
	tb.Cleanup(func() {
		if tb.Failed() && m.last != nil {
			tb.Logf("end of the log of the last server on %s:\n%s", m.dataDir, m.last.log.tail(30))
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
	s.waitReady(tb)
	return s
}

// launch runs a server on the member and waits for nothing.
func (m *member) launch(tb testing.TB) *server {
	tb.Helper()
	command := append(slices.Clone(m.prefix), m.binary)
	m.last = launch(tb, m.workingDir, nil, append(command, m.args()...)...)
	return m.last
}

// server is one process.
type server struct {
	cmd    *exec.Cmd
	log    *serverLog // stderr
	output *serverLog // stdout
	ended  chan struct{}
}

// launch runs a command with env added to a clean environment. The process ends with the test at the latest.
func launch(tb testing.TB, dir string, env []string, command ...string) *server {
	tb.Helper()
	s := &server{
		cmd:    exec.Command(command[0], command[1:]...),
		log:    newServerLog(),
		output: newServerLog(),
		ended:  make(chan struct{}),
	}
	s.cmd.Dir, s.cmd.Env = dir, append(cleanEnvironment(), env...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.log
	s.cmd.SysProcAttr = diesWithParent()
	s.cmd.WaitDelay = stopTimeout
	if err := s.cmd.Start(); err != nil {
		tb.Fatalf("starting the server: %v", err)
	}
	go func() {
		s.cmd.Wait() // the status is read from ProcessState
		close(s.ended)
	}()
	tb.Cleanup(s.kill)
	return s
}

// cleanEnvironment is ours without what would configure the server.
func cleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ASHLAR_")
	})
}

func (s *server) waitReady(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if !s.log.waitFor(ctx, readyLine, s.ended) {
		select {
		case <-s.ended:
			tb.Fatalf("the server ended before it served: %v", s.cmd.ProcessState)
		default:
			tb.Fatalf("the server did not serve within %v", startTimeout)
		}
	}
}

// kill ends the process with SIGKILL and waits for its end. It may have ended already.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.ended
}

// stop asks the server to end, waits, and fails unless it ended well.
func (s *server) stop(tb testing.TB) {
	tb.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		tb.Fatalf("sending SIGTERM: %v", err)
	}
	s.waitEnd(tb)
	status := s.cmd.ProcessState.Sys().(syscall.WaitStatus)
	// etcd sends itself the signal again once it is done.
	if !program.ours && status.Signaled() && status.Signal() == syscall.SIGTERM {
		return
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		tb.Fatalf("the server ended with %v after SIGTERM, want exit status 0", s.cmd.ProcessState)
	}
}

// waitEnd waits for the process to end by itself.
func (s *server) waitEnd(tb testing.TB) {
	tb.Helper()
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
		tb.Fatalf("the server did not end within %v", stopTimeout)
	}
}

// given holds the ports handed out by this process; two members must not get the same before they listen.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// freeAddress is a loopback address that nobody listens on. It lies below the range from which kernels pick the
// ports of outgoing connections, so that none takes it between two starts of one member.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = make(map[int]bool)
	}
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if given.ports[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		given.ports[port] = true
		return address
	}
	tb.Fatal("no free port found")
	return ""
}
