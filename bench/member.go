package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopPatience bounds how long a server may take to end; then it is killed.
const stopPatience = 30 * time.Second

// member is one server process and what it needs to be started again.
type member struct {
	path    string
	args    []string
	client  string // host:port
	logFile string
	cores   []int
	cmd     *exec.Cmd
	ended   chan struct{}
}

// start starts the process; its output goes behind what is in the log.
func (m *member) start() error {
	log, err := os.OpenFile(m.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening a server's log: %w", err)
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(m.path, m.args...)
	cmd.Env = serverEnvironment(os.Environ())
	cmd.Dir = filepath.Dir(m.logFile)
	cmd.Stdout, cmd.Stderr = log, log
	if err := startOn(cmd, m.cores); err != nil {
		return fmt.Errorf("starting %s: %w", m.path, err)
	}
	ended := make(chan struct{})
	m.cmd, m.ended = cmd, ended
	go func() {
		cmd.Wait() // how it ended is told by its log
		close(ended)
	}()
	return nil
}

// serverEnvironment leaves out what would configure a server.
func serverEnvironment(all []string) []string {
	var out []string
	for _, v := range all {
		if !strings.HasPrefix(v, "ETCD_") && !strings.HasPrefix(v, "ASHLAR_") {
			out = append(out, v)
		}
	}
	return out
}

func (m *member) pid() int { return m.cmd.Process.Pid }

// running says whether the process has not ended.
func (m *member) running() bool {
	if m.cmd == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// stop asks the process to end and waits until it has.
func (m *member) stop() error {
	if !m.running() {
		return nil
	}
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", m.path, err)
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-m.ended:
		return nil
	case <-timer.C:
		m.kill()
		return fmt.Errorf("%s did not end within %v and was killed", m.path, stopPatience)
	}
}

// kill ends the process at once and waits for its end.
func (m *member) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill() // it may have ended
		<-m.ended
	}
}

// logTail is the end of what the process has said, on one line.
func (m *member) logTail() string {
	text, err := os.ReadFile(m.logFile)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	tail := string(bytes.Join(lines[max(0, len(lines)-3):], []byte(" | ")))
	return tail[max(0, len(tail)-1000):]
}

// portsMax is how many ports in a row are tried for one address; a run needs fewer in all.
const portsMax = 1000

// ports hands out loopback addresses on which nobody listens, upwards from a port.
type ports struct{ next int }

func (p *ports) address() (string, error) {
	for range portsMax {
		address := fmt.Sprintf("127.0.0.1:%d", p.next)
		p.next++
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address, nil
		}
	}
	return "", fmt.Errorf("no free port below %d", p.next)
}
