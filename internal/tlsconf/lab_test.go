package tlsconf

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

// lab is a directory with an authority, another one that nobody trusts, and a certificate of the server.
type lab struct {
	dir         string
	ca, another *authority.Authority
	server      authority.Issued
	clock       *clock.Manual
	log         *logged
}

func newLab(tb testing.TB) *lab {
	tb.Helper()
	dir := tb.TempDir()
	l := &lab{dir: dir, ca: authority.New(tb, dir, "ca"), another: authority.New(tb, dir, "another"), clock: clock.NewManual(time.Now()), log: &logged{}}
	l.server = l.ca.Issue(tb, "server", authority.Loopback("server"))
	return l
}

// options are those of a server that demands certificates of its clients.
func (l *lab) options() Options {
	return Options{
		Cert: l.server.Cert, Key: l.server.Key, CA: l.ca.File, Side: "client", Clock: l.clock,
		Logger: slog.New(slog.NewTextHandler(l.log, nil)),
	}
}

func (l *lab) open(tb testing.TB, o Options) *Source {
	tb.Helper()
	s, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// serve echoes on a listener with TLS and returns its address.
func (l *lab) serve(tb testing.TB, s *Source) string {
	tb.Helper()
	c, err := s.Server("h2", "http/1.1")
	if err != nil {
		tb.Fatal(err)
	}
	lis := Listen(loopback(tb), c, slog.New(slog.DiscardHandler))
	tb.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return lis.Addr().String()
}

func loopback(tb testing.TB) net.Listener {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = lis.Close() })
	return lis
}

// connect dials and has a byte echoed: only then has the server agreed, too.
func connect(address string, c *tls.Config) (*tls.Conn, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, c)
	if err != nil {
		return nil, err
	}
	if err := echo(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func echo(conn net.Conn) error {
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// may says whether a client may connect.
func may(tb testing.TB, address string, c *tls.Config) bool {
	tb.Helper()
	conn, err := connect(address, c)
	if err != nil {
		tb.Logf("refused: %v", err)
		return false
	}
	_ = conn.Close()
	return true
}

// logged is what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.b.Bytes(), []byte(s))
}
