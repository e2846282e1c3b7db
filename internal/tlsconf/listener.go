package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/accept"
)

const (
	// handshakeTimeout is how long a connection may take until its handshake has ended.
	handshakeTimeout = 10 * time.Second
	// handshakesMax bounds the handshakes under way on one listener.
	handshakesMax = 256
	// silentMax bounds the connections on one listener that are not yet handed over: those in a handshake and those that have
	// sent nothing. They cost a small goroutine each.
	silentMax = 4096
)

// limits are the bounds of a listener.
type limits struct {
	timeout            time.Duration
	handshakes, silent int
}

// Listen returns a listener whose connections come from lis and have their handshake behind them: they are *tls.Conn,
// and their NetConn has a method Offered that tells which protocols the client offered. Closing it closes lis and every
// connection not yet accepted.
func Listen(lis net.Listener, c *tls.Config, log *slog.Logger) net.Listener {
	return listenWithin(lis, c, log, limits{handshakeTimeout, handshakesMax, silentMax})
}

func listenWithin(lis net.Listener, c *tls.Config, log *slog.Logger, most limits) net.Listener {
	l := &listener{
		Listener: lis, config: noting(c), log: log, timeout: most.timeout,
		handshakes: make(chan struct{}, most.handshakes), waiting: make(chan struct{}, most.silent),
		conns: make(chan net.Conn),
	}
	l.ctx, l.end = context.WithCancelCause(context.Background())
	go l.run()
	return l
}

// noting makes a configuration that notes what each client offers.
func noting(c *tls.Config) *tls.Config {
	next := c.GetConfigForClient
	c = c.Clone()
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if conn, ok := hello.Conn.(*begun); ok {
			conn.offered = slices.Clone(hello.SupportedProtos)
		}
		if next == nil {
			return nil, nil
		}
		return next(hello)
	}
	return c
}

type listener struct {
	net.Listener
	config              *tls.Config
	log                 *slog.Logger
	timeout             time.Duration
	handshakes, waiting chan struct{} // hold one element for each
	conns               chan net.Conn
	ctx                 context.Context // ends, with the reason, when no more connections come
	end                 context.CancelCauseFunc

	mu         sync.Mutex
	complained time.Time // when the log was last told of a refused connection
	refused    int       // how many it was not told of
}

func (l *listener) run() {
	for {
		select {
		case l.waiting <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		c, err := accept.Next(l.Listener, l.ctx.Done())
		if err != nil {
			<-l.waiting
			l.end(err)
			return
		}
		go func() {
			defer func() { <-l.waiting }()
			l.begin(c)
		}()
	}
}

// begin takes a new connection as far as it may come.
func (l *listener) begin(c net.Conn) {
	stop := context.AfterFunc(l.ctx, func() { _ = c.Close() })
	done, err := l.handshake(c)
	if err != nil {
		_ = c.Close()
		if !errors.Is(err, io.EOF) && l.ctx.Err() == nil {
			l.complain(c.RemoteAddr().String(), err)
		}
		stop()
		return
	}
	select {
	case l.conns <- done:
		stop() // from here on it belongs to whoever accepted it
	case <-l.ctx.Done():
		_ = c.Close()
	}
}

// complainEvery is the least time between two lines of the log about refused connections: whoever can reach the port must not be
// able to fill the disk.
const complainEvery = time.Second

// complain logs why a connection was refused, and how many were since the last line.
func (l *listener) complain(client string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.complained) >= complainEvery {
		l.log.Warn("rejected connection", "client", client, "error", err.Error(), "others", l.refused)
		l.complained, l.refused = now, 0
		return
	}
	l.refused++
}

func (l *listener) handshake(c net.Conn) (*tls.Conn, error) {
	if err := c.SetDeadline(time.Now().Add(l.timeout)); err != nil {
		return nil, err
	}
	b := &begun{Conn: c}
	if _, err := io.ReadFull(c, b.head[:]); err != nil {
		return nil, err
	}
	select {
	case l.handshakes <- struct{}{}:
		defer func() { <-l.handshakes }()
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
	done := tls.Server(b, l.config)
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	if err := done.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return done, c.SetDeadline(time.Time{})
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	err := l.Listener.Close()
	l.end(net.ErrClosed)
	return err
}

// begun is a connection whose first byte was read to see that the client is there.
type begun struct {
	net.Conn
	head    [1]byte
	given   bool     // the byte was read again
	offered []string // set in the handshake, read after it
}

// Read implements net.Conn.
func (b *begun) Read(p []byte) (int, error) {
	if b.given || len(p) == 0 {
		return b.Conn.Read(p)
	}
	p[0], b.given = b.head[0], true
	return 1, nil
}

// Offered returns the protocols that the client has offered in its handshake.
func (b *begun) Offered() []string { return b.offered }
