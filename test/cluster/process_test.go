package cluster

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

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
	disk    string  // where its disk is told what to do wrong
	begins  trouble // what its next processes find wrong with it

	process *process.Process // the last one
	conn    *clientv3.Client
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
	m.process = process.Start(tb, m.dir, m.environment(tb), append([]string{m.binary}, m.args()...)...)
}

// start runs a process on the member and waits until it serves.
func (m *member) start(tb testing.TB) {
	tb.Helper()
	m.launch(tb)
	m.waitReady(tb)
}

func (m *member) waitReady(tb testing.TB) {
	tb.Helper()
	m.process.WaitReady(tb)
}

func (m *member) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	m.process.Signal(tb, s)
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
	m.process.WaitEnd(tb)
}

// wipe removes the data of a member that does not run.
func (m *member) wipe(tb testing.TB) {
	tb.Helper()
	if err := os.RemoveAll(filepath.Join(m.dir, "data")); err != nil {
		tb.Fatal(err)
	}
}
