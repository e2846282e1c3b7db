package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen at last.
const patience = 240 * time.Second

// echo is a TCP server that answers each line with its name and the line.
type echo struct {
	name    string
	address string
	stop    func()
}

// serveEcho starts a server at an address, which may have port 0.
func serveEcho(t *testing.T, name, address string) *echo {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				lines := bufio.NewScanner(c)
				for lines.Scan() {
					fmt.Fprintf(c, "%s %s\n", name, lines.Text())
				}
				fmt.Fprintf(c, "%s saw the end\n", name)
				_ = c.Close()
			})
		}
	})
	e := &echo{name: name, address: l.Addr().String(), stop: sync.OnceFunc(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})}
	t.Cleanup(e.stop)
	return e
}

// command is a proxy that was started by its command line.
type command struct {
	address string
	log     *output
	stop    func()
	status  chan int
}

// output is what a command writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start runs a command until the test ends, and wants it to serve.
func start(t *testing.T, p Process) *command {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &command{log: &output{}, stop: stop, status: make(chan int, 1)}
	ready := make(chan string, 1)
	p.Program, p.Stdout, p.Stderr = "etcd", io.Discard, c.log
	p.Ready = func(addresses []string) { ready <- addresses[0] }
	go func() { c.status <- Run(ctx, p) }()
	select {
	case c.address = <-ready:
	case status := <-c.status:
		t.Fatalf("it ended with status %d: %s", status, c.log)
	}
	t.Cleanup(func() {
		stop()
		if status := <-c.status; status != 0 {
			t.Errorf("a graceful stop has status %d: %s", status, c.log)
		}
	})
	return c
}

// say sends a line on a new connection, ends that half, and returns all that comes back.
func say(t *testing.T, address, line string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(conn, line); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(conn)
	if err == nil && len(all) == 0 {
		err = errors.New("nothing came back")
	}
	return string(all), err
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for !yes() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-pause.C
	}
}

// refused runs a command that must fail, and returns what it says.
func refused(t *testing.T, p Process) string {
	t.Helper()
	var out, errs strings.Builder
	p.Program, p.Stdout, p.Stderr = "etcd", &out, &errs
	p.Ready = func([]string) { t.Errorf("%v serves", p.Args) }
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if status := Run(ctx, p); status != 1 {
		t.Errorf("%v: status %d, %s", p.Args, status, &errs)
	}
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	return lines[len(lines)-1]
}
