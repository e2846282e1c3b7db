package process

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience bounds every wait for a process. It is no expectation: a shared machine may stall for seconds.
const Patience = 3 * time.Minute

// ReadyLine is what etcd, and we, log once clients are served; scripts of operators wait for it too.
const ReadyLine = "ready to serve client requests"

// Process is one process. It may be used from any goroutine, but methods that take the test only from the test's own.
type Process struct {
	// Log is what it has written to stderr, and Output what it has written to stdout.
	Log, Output *Log
	cmd         *exec.Cmd
	ended       chan struct{}
}

// Start runs a command in a directory, with env added to a clean environment. It is killed with the test at the latest.
func Start(tb testing.TB, dir string, env []string, command ...string) *Process {
	tb.Helper()
	p := &Process{cmd: exec.Command(command[0], command[1:]...), Log: newLog(), Output: newLog(), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = dir, append(CleanEnvironment(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.Output, p.Log
	p.cmd.SysProcAttr = DiesWithParent()
	p.cmd.WaitDelay = Patience
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("starting %s: %v", command[0], err)
	}
	go func() {
		p.cmd.Wait() // the status is read from ProcessState
		close(p.ended)
	}()
	tb.Cleanup(func() {
		p.Kill()
		p.checkSound(tb)
	})
	return p
}

// CleanEnvironment is the environment without what would configure a server.
func CleanEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") || strings.HasPrefix(v, "ASHLAR_")
	})
}

// checkSound fails the test when the process panicked, or found a race in a program that looks for them.
func (p *Process) checkSound(tb testing.TB) {
	text := p.Log.String()
	for _, bad := range []string{"WARNING: DATA RACE", "\npanic: ", "\nfatal error: "} {
		if i := strings.Index(text, bad); i >= 0 {
			tb.Errorf("%s:\n%s", strings.Join(p.cmd.Args, " "), text[i:min(len(text), i+4000)])
		}
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ended is closed once the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// State says how the process ended; nil before that.
func (p *Process) State() *os.ProcessState {
	select {
	case <-p.ended:
		return p.cmd.ProcessState
	default:
		return nil
	}
}

// WaitFor waits until the process has logged something. It returns false when the process ends before, or patience does.
func (p *Process) WaitFor(text string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return p.Log.waitFor(ctx, text, p.ended)
}

// WaitForOutput is WaitFor for what goes to stdout.
func (p *Process) WaitForOutput(text string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return p.Output.waitFor(ctx, text, p.ended)
}

// WaitReady waits until the server serves clients, and fails the test when it does not.
func (p *Process) WaitReady(tb testing.TB) {
	tb.Helper()
	if p.WaitFor(ReadyLine) {
		return
	}
	if state := p.State(); state != nil {
		tb.Fatalf("%s ended before it served: %v; its log ends with:\n%s", p.cmd.Path, state, p.Log.Tail(10))
	}
	tb.Fatalf("%s did not serve within %v; its log ends with:\n%s", p.cmd.Path, Patience, p.Log.Tail(10))
}

// WaitEnd waits until the process has ended by itself, and fails the test when it does not.
func (p *Process) WaitEnd(tb testing.TB) {
	tb.Helper()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		tb.Fatalf("%s did not end within %v; its log ends with:\n%s", p.cmd.Path, Patience, p.Log.Tail(10))
	}
}

// Signal sends a signal to a process that runs.
func (p *Process) Signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		tb.Fatalf("sending %v to %s: %v", s, p.cmd.Path, err)
	}
}

// Kill ends the process with SIGKILL and waits for its end. It may have ended already.
func (p *Process) Kill() {
	p.cmd.Process.Kill()
	<-p.ended
}

// Stop asks the process to end and waits until it has.
func (p *Process) Stop(tb testing.TB) {
	tb.Helper()
	p.Signal(tb, syscall.SIGTERM)
	p.WaitEnd(tb)
}
