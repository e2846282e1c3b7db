package web

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/accept"
)

const (
	// preface is how every HTTP/2 connection without TLS begins, and no other.
	preface = "PRI * HTTP/2.0"
	// peekTimeout is how long a connection may take to show what it is.
	peekTimeout = 10 * time.Second
	// requestWait is how long a client that has begun with HTTP/2 may take until its first request shows what it is.
	requestWait = time.Second
	// pendingMax bounds the pending connections; more wait in the operating system's queue.
	pendingMax = 4096
)

// Split takes a listener apart, whose connections are without TLS or are *tls.Conn with the handshake behind them: those of gRPC
// clients come out of grpc, all others out of http. Each half is closed by itself; its new connections are closed then. The
// second Close, or closing lis, ends both. The error that ends lis is returned by both.
//
// HTTP/1 is known by its first bytes or by what the handshake has settled. With TLS, a client that offers HTTP/2 alone
// is a gRPC client, and nothing of what it sends is looked at. Every other client that begins with HTTP/2 may be
// one or not: the content type of its first request decides. One that connects and asks nothing is taken for a gRPC client without
// TLS, which no browser speaks, and for a browser with it.
func Split(lis net.Listener) (grpc, http net.Listener) {
	return split(lis, peekTimeout, requestWait)
}

func split(lis net.Listener, timeout, wait time.Duration) (grpc, http net.Listener) {
	s := &splitter{
		lis: lis, timeout: timeout, wait: wait, open: 2,
		slots: make(chan struct{}, pendingMax), pending: make(map[net.Conn]struct{}), ended: make(chan struct{}),
	}
	s.grpc, s.http = newHalf(s), newHalf(s)
	go s.run()
	return s.grpc, s.http
}

// splitter accepts connections and hands them to its halves.
type splitter struct {
	lis        net.Listener
	timeout    time.Duration // of the first bytes
	wait       time.Duration // of the first request
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
		c, err := accept.Next(s.lis, s.ended)
		if err != nil {
			<-s.slots
			s.end(err)
			return
		}
		go s.sort(c)
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
	half, sorted, ok := s.peek(c)
	<-s.slots
	if !ok {
		_ = c.Close()
		return
	}
	half.give(sorted)
}

// peek tells what c speaks, from no more bytes than tell it, and returns it as that half needs it.
func (s *splitter) peek(c net.Conn) (h *half, sorted net.Conn, ok bool) {
	if !s.track(c) {
		return nil, nil, false
	}
	defer s.untrack(c)
	encrypted := false
	if t, is := c.(*tls.Conn); is {
		encrypted = true
		switch settled := t.ConnectionState().NegotiatedProtocol; {
		case settled == "h2" && offersOnlyH2(t):
			return s.grpc, c, true
		case settled != "h2" && settled != "":
			return s.http, c, true
		}
	}
	if c.SetReadDeadline(time.Now().Add(s.timeout)) != nil {
		return nil, nil, false
	}
	head, http2, ok := peekPreface(c)
	switch {
	case !ok:
		return nil, nil, false
	case !http2:
		return s.http, &replayed{Conn: c, head: head}, c.SetReadDeadline(time.Time{}) == nil
	}
	o := opening{conn: c, read: head, wait: s.wait}
	saw := o.look()
	if c.SetDeadline(time.Time{}) != nil {
		return nil, nil, false
	}
	if saw == sawGRPC || saw == sawNothing && !encrypted {
		return s.grpc, &replayed{Conn: c, head: o.read}, true
	}
	sorted = &replayed{Conn: c, head: o.read}
	if o.greeted {
		sorted = &unacknowledged{Conn: sorted, pass: prefaceBytes}
	}
	return s.http, sorted, true
}

// offersOnlyH2 tells whether the client has offered HTTP/2 and nothing else in its handshake.
func offersOnlyH2(c *tls.Conn) bool {
	o, ok := c.NetConn().(interface{ Offered() []string })
	return ok && slices.Equal(o.Offered(), []string{"h2"})
}

// peekPreface reads the first bytes of c until they differ from the preface of HTTP/2 or are equal to its first line.
func peekPreface(c net.Conn) (head []byte, http2, ok bool) {
	head = make([]byte, 0, len(preface))
	for {
		n, err := c.Read(head[len(head):cap(head)])
		head = head[:len(head)+n]
		switch {
		case !bytes.HasPrefix([]byte(preface), head):
			return head, false, true
		case len(head) == len(preface):
			return head, true, true
		case err != nil:
			return nil, false, false
		}
	}
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
