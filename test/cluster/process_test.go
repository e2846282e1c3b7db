package cluster

import (
	"bytes"
	"context"
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

	clientv3 "go.etcd.io/etcd/client/v3"
)

// readyLine is what etcd, and we, log once clients are served.
const readyLine = "ready to serve client requests"

// member is a data directory with its addresses. One process at a time serves it.
type member struct {
	number  int
	name    string
	binary  string
	dir     string // of data and log
	client  string // URL
	peer    string // URL, of the proxy
	listen  string // URL, behind it
	vanish  func() // makes peer dead
	id      uint64
	initial string // --initial-cluster
	state   string // --initial-cluster-state
	extra   []string

	process *process // the last one
	conn    *clientv3.Client
}

// process is one process that serves a member.
type process struct {
	cmd   *exec.Cmd
	log   *log
	ended chan struct{}
}

func (m *member) args() []string {
	return append([]string{
		"--name", m.name, "--data-dir", filepath.Join(m.dir, "data"),
		"--listen-client-urls", m.client, "--advertise-client-urls", m.client,
		"--listen-peer-urls", m.listen, "--initial-advertise-peer-urls", m.peer,
		"--initial-cluster", m.initial, "--initial-cluster-state", m.state, "--initial-cluster-token", "cluster-test",
	}, m.extra...)
}

// launch runs a process on the member and waits for nothing.
func (m *member) launch(tb testing.TB) {
	tb.Helper()
	p := &process{cmd: exec.Command(m.binary, m.args()...), log: newLog(), ended: make(chan struct{})}
	p.cmd.Dir = m.dir
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ASHLAR_")
	})
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = diesWithParent()
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("starting %s: %v", m.name, err)
	}
	go func() {
		p.cmd.Wait() // the status is read from ProcessState
		close(p.ended)
	}()
	tb.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		p.checkSound(tb, m.name)
	})
	m.process = p
}

// checkSound fails the test when the process panicked, or found a race in a binary that looks for them.
func (p *process) checkSound(tb testing.TB, name string) {
	text := p.log.String()
	for _, bad := range []string{"WARNING: DATA RACE", "\npanic: ", "\nfatal error: "} {
		if i := strings.Index(text, bad); i >= 0 {
			tb.Errorf("%s:\n%s", name, text[i:min(len(text), i+4000)])
		}
	}
}

// start runs a process on the member and waits until it serves.
func (m *member) start(tb testing.TB) {
	tb.Helper()
	m.launch(tb)
	m.waitReady(tb)
}

func (m *member) waitReady(tb testing.TB) {
	tb.Helper()
	if !m.process.waitFor(readyLine) {
		tb.Fatalf("%s does not serve", m.name)
	}
}

// waitFor waits until the process has logged something; false when it ends, or patience does.
func (p *process) waitFor(text string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.log.waitFor(ctx, text, p.ended)
}

func (m *member) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := m.process.cmd.Process.Signal(s); err != nil {
		tb.Fatalf("sending %v to %s: %v", s, m.name, err)
	}
}

// kill ends the process with SIGKILL.
func (m *member) kill(tb testing.TB) {
	tb.Helper()
	m.signal(tb, syscall.SIGKILL)
	m.waitEnd(tb)
}

// stop asks the process to end.
func (m *member) stop(tb testing.TB) {
	tb.Helper()
	m.signal(tb, syscall.SIGTERM)
	m.waitEnd(tb)
}

func (m *member) waitEnd(tb testing.TB) {
	tb.Helper()
	select {
	case <-m.process.ended:
	case <-time.After(patience):
		tb.Fatalf("%s does not end", m.name)
	}
}

// wipe removes the data of a member that does not run.
func (m *member) wipe(tb testing.TB) {
	tb.Helper()
	if err := os.RemoveAll(filepath.Join(m.dir, "data")); err != nil {
		tb.Fatal(err)
	}
}

// given holds the ports handed out by this process.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// freeAddress is a loopback address that nobody listens on. It lies below the range from which kernels pick the ports of
// outgoing connections.
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

// log collects what a process writes and lets tests wait for a part of it.
type log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed, and replaced, at every write
}

func newLog() *log { return &log{changed: make(chan struct{})} }

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// tail is at most the last n lines.
func (l *log) tail(n int) string {
	lines := strings.Split(strings.TrimRight(l.String(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (l *log) waitFor(ctx context.Context, part string, ended <-chan struct{}) bool {
	for {
		l.mu.Lock()
		found, changed := bytes.Contains(l.text.Bytes(), []byte(part)), l.changed
		l.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-changed:
		case <-ended:
			return strings.Contains(l.String(), part)
		case <-ctx.Done():
			return false
		}
	}
}
