package ctl

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/ctl"
	"github.com/ashlar-kv/ashlar/internal/server"
	"github.com/ashlar-kv/ashlar/test/process"
)

// member is a running member of one.
type member struct{ endpoint string }

// startMember runs a member until the test ends.
func startMember(t *testing.T, flags ...string) member {
	t.Helper()
	client, peer := process.FreeAddress(t), "http://"+process.FreeAddress(t)
	m := member{endpoint: client}
	args := append([]string{"--name=m", "--data-dir=" + filepath.Join(t.TempDir(), "data"),
		"--listen-client-urls=http://" + client, "--advertise-client-urls=http://" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=m=" + peer}, flags...)
	cfg, err := config.Parse("ashlar", args, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the member ended with %v", err)
		}
	})
	if got := m.run(t, "", "get", "ready", "--command-timeout=180s"); got.status != 0 {
		t.Fatalf("the member does not serve: %+v", got)
	}
	return m
}

// outcome is what a command left behind.
type outcome struct {
	status         int
	stdout, stderr string
}

// run runs a command to its end, with that standard input.
func (m member) run(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return m.runAs(t.Context(), "etcdctl", nil, strings.NewReader(stdin), args...)
}

// own runs a command of ashlar ctl to its end, also one that etcdctl has not.
func (m member) own(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	return m.runAs(t.Context(), "ashlar ctl", nil, strings.NewReader(stdin), args...)
}

// runAs runs a command of the program that is called by that name.
func (m member) runAs(ctx context.Context, program string, environ []string, stdin io.Reader, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	status := ctl.Run(ctx, ctl.Process{Program: program, Args: args, Stdin: stdin, Stdout: &stdout, Stderr: &stderr,
		Environ: append(slices.Clone(environ), m.environ(args)...)}) // the first counts
	return outcome{status, stdout.String(), stderr.String()}
}

// environ is what commands run with: time limits that a busy machine keeps, too, unless the test is about them.
func (m member) environ(args []string) []string {
	out := []string{"ETCDCTL_ENDPOINTS=" + m.endpoint, "PATH=/usr/bin:/bin", "ETCDCTL_DIAL_TIMEOUT=180s"}
	if !strings.Contains(strings.Join(args, " "), "--command-timeout") {
		out = append(out, "ETCDCTL_COMMAND_TIMEOUT=180s")
	}
	return out
}

// command is one that runs beside the test.
type command struct {
	stdout, stderr *growing
	stop           func()
	ended          chan struct{}
	status         int // once ended
}

// start runs a command that stop ends as a signal would.
func (m member) start(t *testing.T, stdin io.Reader, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{stdout: newGrowing(), stderr: newGrowing(), stop: stop, ended: make(chan struct{})}
	go func() {
		c.status = ctl.Run(ctx, ctl.Process{Program: "etcdctl", Args: args, Stdin: stdin, Stdout: c.stdout, Stderr: c.stderr,
			Environ: m.environ(args)})
		close(c.ended)
	}()
	t.Cleanup(func() { c.end(t) })
	return c
}

// end stops a command and waits for its end.
func (c *command) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.wait(t)
}

func (c *command) wait(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(process.Patience):
		t.Error("the command does not end")
	}
}

// growing is a text that one goroutine writes while others wait for what comes.
type growing struct {
	mu   sync.Mutex
	more *sync.Cond
	text strings.Builder
	late bool
}

func newGrowing() *growing {
	g := &growing{}
	g.more = sync.NewCond(&g.mu)
	return g
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.more.Broadcast()
	return g.text.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// waitFor waits until what stands in the text.
func (g *growing) waitFor(t *testing.T, what string) {
	t.Helper()
	g.waitForAfter(t, 0, what)
}

// waitForAfter waits until what stands in the text after its first bytes.
func (g *growing) waitForAfter(t *testing.T, after int, what string) {
	t.Helper()
	alarm := time.AfterFunc(process.Patience, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.late = true
		g.more.Broadcast()
	})
	defer alarm.Stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for !strings.Contains(g.text.String()[after:], what) {
		if g.late {
			t.Fatalf("%q did not come; there is %q", what, g.text.String()[after:])
		}
		g.more.Wait()
	}
}
