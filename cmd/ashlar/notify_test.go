//go:build linux

package main

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/server"
)

func TestTheEnvironmentSaysWhoWantsToKnow(t *testing.T) {
	t.Parallel()
	const pid = 42
	for name, c := range map[string]struct {
		environ  []string
		socket   string
		watchdog time.Duration
	}{
		"nobody":                               {nil, "", 0},
		"a watchdog that nobody listens for":   {[]string{"WATCHDOG_USEC=1000"}, "", 0},
		"readiness alone":                      {[]string{"NOTIFY_SOCKET=/run/n"}, "/run/n", 0},
		"an abstract socket":                   {[]string{"NOTIFY_SOCKET=@n"}, "@n", 0},
		"a watchdog for whoever is started":    {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=3000000"}, "/n", 3 * time.Second},
		"a watchdog for this process":          {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=1000", "WATCHDOG_PID=42"}, "/n", time.Millisecond},
		"a watchdog for another process":       {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=1000", "WATCHDOG_PID=43"}, "/n", 0},
		"a watchdog of no time":                {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=0"}, "/n", 0},
		"a watchdog of a time that is none":    {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=soon"}, "/n", 0},
		"a watchdog of a negative time":        {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=-1"}, "/n", 0},
		"a watchdog of more time than fits":    {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=9223372036854775807"}, "/n", 0},
		"a watchdog that is off, as systemd's": {[]string{"NOTIFY_SOCKET=/n", "WATCHDOG_USEC=18446744073709551615"}, "/n", 0},
	} {
		n := newNotifier(c.environ, pid, slog.New(slog.DiscardHandler))
		if n.socket != c.socket || n.watchdog != c.watchdog {
			t.Errorf("%s: the socket is %q, the time %v", name, n.socket, n.watchdog)
		}
		n.end()
	}
}

// stoppedMember is a member that ran and ended.
func stoppedMember(t *testing.T) *member.Member {
	t.Helper()
	cfg, err := config.Parse("ashlar", []string{"--data-dir", filepath.Join(t.TempDir(), "data"), "--listen-client-urls=http://127.0.0.1:0",
		"--advertise-client-urls=http://127.0.0.1:1", "--listen-peer-urls=http://127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var m *member.Member
	host := server.Host{Started: func(x *member.Member) { m = x }, Serving: func(*member.Member) { stop() }}
	if err := server.RunIn(ctx, cfg, slog.New(slog.DiscardHandler), host); err != nil {
		t.Fatal(err)
	}
	return m
}

// listenAsManager listens where a service manager would.
func listenAsManager(t *testing.T) (socket string, manager *net.UnixConn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") // short: a socket's name has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	manager, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = manager.Close() })
	return socket, manager
}

// TestAManagerThatStandsStillHoldsNobodyUp: what all processes tell it waits before its socket, which has room for some hundred messages at most.
func TestAManagerThatStandsStillHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	socket, _ := listenAsManager(t)
	var log bytes.Buffer
	n := newNotifier([]string{"NOTIFY_SOCKET=" + socket}, os.Getpid(), slog.New(slog.NewTextHandler(&log, nil)))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 10_000 {
			if n.send("STATUS=x"); log.Len() > 0 {
				break
			}
		}
		n.stopping()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it waits")
	}
	if got := strings.Count(log.String(), "cannot tell the service manager"); got != 2 {
		t.Errorf("the log holds %q", log.String())
	}
}

func TestTheWatchdogGetsNoAnswerForAMemberThatIsNotAlive(t *testing.T) {
	t.Parallel()
	socket, manager := listenAsManager(t)
	var log bytes.Buffer
	n := newNotifier([]string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=1000000000"}, os.Getpid(), slog.New(slog.NewTextHandler(&log, nil)))
	n.started(stoppedMember(t))
	n.answerOnce(time.Minute)
	if !strings.Contains(log.String(), "gets no answer") {
		t.Errorf("the log holds %q", log.String())
	}
	n.stopping()
	n.stopping()           // says it once
	n.serving(nil)         // which is over
	n.send("that was all") // datagrams keep their order
	for _, want := range []string{"STATUS=waiting for a majority of the cluster's members", "STOPPING=1\nSTATUS=stopping", "that was all"} {
		buf := make([]byte, 100)
		if got, err := manager.Read(buf); err != nil || string(buf[:got]) != want {
			t.Errorf("the manager heard %q, %v; want %q", buf[:got], err, want)
		}
	}
}
