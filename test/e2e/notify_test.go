package e2e

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/test/process"
)

// serviceManager listens as systemd does to what a service says of itself, and keeps it in order.
type serviceManager struct {
	socket string
	heard  chan string
}

// notifiesMax is more messages than any test waits for.
const notifiesMax = 10_000

func newServiceManager(tb testing.TB) *serviceManager {
	tb.Helper()
	if runtime.GOOS != "linux" {
		tb.Skip("service managers of this kind are for Linux")
	}
	dir, err := os.MkdirTemp("", "n") // a test's directory has too long a name for a socket
	noError(tb, err)
	s := &serviceManager{socket: filepath.Join(dir, "s"), heard: make(chan string, notifiesMax)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	noError(tb, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.heard <- string(buf[:n])
		}
	}()
	tb.Cleanup(func() {
		conn.Close()
		<-ended
		os.RemoveAll(dir)
	})
	return s
}

// next is the next message that says more than how things are, of which only the first line counts.
func (s *serviceManager) next(tb testing.TB) string {
	tb.Helper()
	timer := time.NewTimer(process.Patience)
	defer timer.Stop()
	for {
		select {
		case m := <-s.heard:
			if first, _, _ := strings.Cut(m, "\n"); !strings.HasPrefix(first, "STATUS=") {
				return first
			}
		case <-timer.C:
			tb.Fatal("the service manager heard nothing more")
			return ""
		}
	}
}

// until returns the messages up to a wanted one, which is the last of them.
func (s *serviceManager) until(tb testing.TB, want string) (all []string) {
	tb.Helper()
	for len(all) == 0 || all[len(all)-1] != want {
		all = append(all, s.next(tb))
	}
	return all
}

// under makes the servers of a member services of the manager, with further variables as a shell sets them.
func (m *member) under(s *serviceManager, variables string) {
	m.prefix = []string{"sh", "-c", "NOTIFY_SOCKET=" + s.socket + " " + variables + ` exec "$0" "$@"`}
}

func TestTheServiceManagerIsToldThatAMemberServesLivesAndStops(t *testing.T) {
	t.Parallel()
	manager, m := newServiceManager(t), newMember(t)
	m.under(manager, "WATCHDOG_USEC=200000 WATCHDOG_PID=$$")
	s := m.launch(t)
	if got := manager.next(t); got != "READY=1" {
		t.Fatalf("the first word is %q", got)
	}
	// Who is told that it serves need not try again.
	_, err := m.connect(t).Put(within(t, process.Patience), "k", "v")
	noError(t, err)
	if !program.ours {
		s.stop(t)
		return
	}
	for range 3 {
		if got := manager.next(t); got != "WATCHDOG=1" {
			t.Fatalf("a member that lives says %q", got)
		}
	}
	s.Signal(t, syscall.SIGTERM)
	manager.until(t, "STOPPING=1")
	s.WaitEnd(t)
	if code := s.State().ExitCode(); code != 0 || len(manager.heard) > 0 {
		t.Errorf("status %d; after it said that it stops it said %d words more", code, len(manager.heard))
	}
}

func TestTheWatchdogOfAnotherProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd answers no watchdog")
	}
	manager, m := newServiceManager(t), newMember(t)
	m.under(manager, "WATCHDOG_USEC=1000 WATCHDOG_PID=1")
	s := m.start(t)
	c := m.connect(t)
	for range 20 { // in which time a watchdog of its own would have been answered many times
		_, err := c.Put(within(t, process.Patience), "k", "v")
		noError(t, err)
	}
	s.stop(t)
	if all := manager.until(t, "STOPPING=1"); !slices.Equal(all, []string{"READY=1", "STOPPING=1"}) {
		t.Errorf("it said %q", all)
	}
}

// TestAMemberThatDoesNotServeSaysNothing has no majority, so that nobody is served.
func TestAMemberThatDoesNotServeSaysNothing(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd answers no watchdog")
	}
	manager, m := newServiceManager(t), newMember(t)
	m.extra = []string{"--initial-cluster", "default=" + m.peer + ",b=http://" + process.FreeAddress(t) + ",c=http://" + process.FreeAddress(t)}
	m.under(manager, "WATCHDOG_USEC=1000 WATCHDOG_PID=$$")
	s := m.launch(t)
	if !s.WaitFor(`"msg":"starting"`) {
		t.Fatal("it does not start: " + s.Log.Tail(5))
	}
	s.stop(t)
	if all := manager.until(t, "STOPPING=1"); len(all) != 1 {
		t.Errorf("it said %q", all)
	}
}

func TestAServiceManagerThatCannotBeReachedIsNoReasonToEnd(t *testing.T) {
	t.Parallel()
	if !program.ours {
		t.Skip("etcd says it in other words")
	}
	manager, m := newServiceManager(t), newMember(t)
	manager.socket += ".gone"
	m.under(manager, "WATCHDOG_USEC=100000")
	s := m.start(t)
	_, err := m.connect(t).Put(within(t, process.Patience), "k", "v")
	noError(t, err)
	if !s.WaitFor("cannot tell the service manager") {
		t.Error("nobody is told")
	}
	s.stop(t)
}
