package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/member"
)

// notifier tells the service manager that started this process how the member fares, as sd_notify(3) says: that its clients are
// served, that it stops, and now and then, while that is so, that it is alive. Without such a manager it does nothing.
type notifier struct {
	socket   string        // empty: nobody wants to know
	watchdog time.Duration // after which a process that says nothing is ended; 0 is never
	log      *slog.Logger
	member   atomic.Pointer[member.Member] // nil until one runs, and in a process that runs none

	mu    sync.Mutex
	ready bool // it was told that clients are served
	ended bool // stopping was called
	loop  sync.WaitGroup
	ctx   context.Context // ends with stopping
	end   context.CancelFunc
}

// aliveTurns is how often in the time of the watchdog the member is looked after: the manager recommends half of it.
const aliveTurns = 2

// newNotifier reads where the service manager listens from the environment of the process with this id.
func newNotifier(environ []string, pid int, log *slog.Logger) *notifier {
	vars := map[string]string{}
	for _, v := range environ {
		if name, text, ok := strings.Cut(v, "="); ok {
			vars[name] = text
		}
	}
	n := &notifier{socket: vars["NOTIFY_SOCKET"], log: log}
	n.ctx, n.end = context.WithCancel(context.Background())
	if n.socket == "" {
		return n
	}
	if forPID := vars["WATCHDOG_PID"]; forPID != "" && forPID != strconv.Itoa(pid) {
		return n // it is another process that is to answer
	}
	if usec, err := strconv.ParseInt(vars["WATCHDOG_USEC"], 10, 64); err == nil && usec > 0 && usec <= int64(1<<63-1)/1000 {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// started takes the member whose life is told of, and says what it waits for.
func (n *notifier) started(m *member.Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.member.Store(m)
	if !n.ended {
		n.send("STATUS=waiting for a majority of the cluster's members")
	}
}

// serving says that clients are served, and begins to answer the watchdog the first time that it is called: in the name of the
// member that was started, or of the process alone.
func (n *notifier) serving(*member.Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.ended:
	case n.ready: // a member that began anew
		n.send("STATUS=" + served)
	default:
		n.ready = true
		n.send("READY=1\nSTATUS=" + served)
		if n.watchdog > 0 {
			n.loop.Go(n.answerWatchdog)
		}
	}
}

// served is the status of a process whose clients are served.
const served = "serving clients"

// stopping says that the member stops, the first time that it is called, and answers the watchdog no more: what hangs while it
// stops is ended by the manager.
func (n *notifier) stopping() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return
	}
	n.ended = true
	n.end()
	n.loop.Wait()
	n.send("STOPPING=1\nSTATUS=stopping")
}

// answerWatchdog answers as long as the member is alive. Between two members, when a state was rebuilt, nobody is.
func (n *notifier) answerWatchdog() {
	every := n.watchdog / aliveTurns
	ticker := time.NewTicker(max(every, 1))
	defer ticker.Stop()
	for {
		n.answerOnce(every)
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// answerOnce asks the member within a time whether it is alive, and passes that on.
func (n *notifier) answerOnce(within time.Duration) {
	ctx, cancel := context.WithTimeout(n.ctx, within)
	defer cancel()
	var err error
	if m := n.member.Load(); m != nil {
		err = m.Alive(ctx)
	}
	switch {
	case err == nil:
		n.send("WATCHDOG=1")
	case n.ctx.Err() == nil:
		n.log.Warn("the watchdog of the service manager gets no answer", "reason", err)
	}
}

// sendTimeout is how long a manager may take to make room for a message. One that stands still, with messages of all processes before
// its socket, keeps nobody from starting or stopping.
const sendTimeout = time.Second

// send sends one message. The manager does not answer.
func (n *notifier) send(message string) {
	if n.socket == "" {
		return
	}
	if err := sendDatagram(n.socket, message); err != nil {
		n.log.Warn("cannot tell the service manager", "message", message, "error", err)
	}
}

func sendDatagram(socket, message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"}) // @ stands for an abstract name
	if err != nil {
		return fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	if err = conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err == nil {
		_, err = conn.Write([]byte(message))
	}
	if closing := conn.Close(); err == nil {
		err = closing
	}
	return err
}
