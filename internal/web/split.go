package web

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	// preface is how every HTTP/2 connection without TLS begins, and no other.
	preface = "PRI * HTTP/2.0"
	// peekTimeout is how long a connection may take to show what it is.
	peekTimeout = 10 * time.Second
	// pendingMax bounds the pending connections; more wait in the operating system's queue.
	pendingMax = 4096
	// acceptRetry is how long accepting rests after an error that may pass, such as too many open files.
	acceptRetry = 50 * time.Millisecond
)

// Split takes a listener without TLS apart: connections that speak HTTP/2 come out of grpc, all others out of http. Each
// half is closed by itself; its new connections are closed then. The second Close, or closing
// lis, ends both. The error that ends lis is returned by both.
func Split(lis net.Listener) (grpc, http net.Listener) {
	return split(lis, peekTimeout)
}

func split(lis net.Listener, timeout time.Duration) (grpc, http net.Listener) {
	s := &splitter{
		lis: lis, timeout: timeout, open: 2,
		slots: make(chan struct{}, pendingMax), pending: make(map[net.Conn]struct{}), ended: make(chan struct{}),
	}
	s.grpc, s.http = newHalf(s), newHalf(s)
	go s.run()
	return s.grpc, s.http
}

// splitter accepts connections and hands them to its halves.
type splitter struct {
	lis        net.Listener
	timeout    time.Duration
	grpc, http *half
	slots      chan struct{} // holds one element for each pending connection

	mu      sync.Mutex
	open    int // halves
	pending map[net.Conn]struct{}
	err     error         // why lis ended
	ended   chan struct{} // closed after err is set
}

func (s *splitter) run() {
	for {
		s.slots <- struct{}{}
		c, err := s.lis.Accept()
		if err == nil {
			go s.sort(c)
			continue
		}
		<-s.slots
		if !s.pause(err) {
			s.end(err)
			return
		}
	}
}

// passing are errors of accepting that are gone after a while.
var passing = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR}

// pause waits a little after an error that may pass, and tells whether to go on.
func (s *splitter) pause(err error) bool {
	if !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
		return false
	}
	t := time.NewTimer(acceptRetry)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ended:
		return false
	}
}

// end ends both halves with err.
func (s *splitter) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	close(s.ended)
	for c := range s.pending {
		_ = c.Close()
	}
}

// sort finds out what c speaks and hands it to that half.
func (s *splitter) sort(c net.Conn) {
	half, head, ok := s.peek(c)
	<-s.slots
	if !ok {
		_ = c.Close()
		return
	}
	half.give(&replayed{Conn: c, head: head})
}

// peek reads the first bytes of c: no more than tell what it speaks.
func (s *splitter) peek(c net.Conn) (h *half, head []byte, ok bool) {
	if !s.track(c) {
		return nil, nil, false
	}
	defer s.untrack(c)
	if c.SetReadDeadline(time.Now().Add(s.timeout)) != nil {
		return nil, nil, false
	}
	head = make([]byte, 0, len(preface))
	for h == nil {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		switch {
		case !bytes.HasPrefix([]byte(preface), head):
			h = s.http
		case len(head) == len(preface):
			h = s.grpc
		case err != nil:
			return nil, nil, false
		}
	}
	return h, head, c.SetReadDeadline(time.Time{}) == nil
}

// track makes end close c. It returns false when the end has come.
func (s *splitter) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.pending[c] = struct{}{}
	return true
}

func (s *splitter) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, c)
}

// half is one of the two listeners.
type half struct {
	s      *splitter
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHalf(s *splitter) *half {
	return &half{s: s, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give waits until c is accepted; it is closed if nobody will.
func (h *half) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	case <-h.s.ended:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	case <-h.s.ended:
		return nil, h.s.err
	}
}

// Close implements net.Listener. Connections that were accepted stay.
func (h *half) Close() (err error) {
	err = net.ErrClosed
	h.once.Do(func() {
		close(h.closed)
		err = h.s.leave()
	})
	return err
}

// leave closes the listener after the last half.
func (s *splitter) leave() error {
	s.mu.Lock()
	s.open--
	last := s.open == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	err := s.lis.Close()
	s.end(net.ErrClosed)
	return err
}

// Addr implements net.Listener.
func (h *half) Addr() net.Addr { return h.s.lis.Addr() }

// replayed is a connection whose first bytes were read already.
type replayed struct {
	net.Conn
	head []byte // what is left of them
}

// Read implements net.Conn.
func (c *replayed) Read(p []byte) (int, error) {
	if len(c.head) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}
