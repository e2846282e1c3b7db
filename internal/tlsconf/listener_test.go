package tlsconf

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// listenLab serves with bounds and hands over what was accepted.
func listenLab(t *testing.T, most limits) (l *lab, address string, accepted <-chan *tls.Conn) {
	t.Helper()
	l = newLab(t)
	o := l.options()
	o.CA = ""
	c, err := l.open(t, o).Server("h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	lis := listenWithin(loopback(t), c, slog.New(slog.DiscardHandler), most)
	t.Cleanup(func() { _ = lis.Close() })
	conns := make(chan *tls.Conn, 16)
	go func() {
		defer close(conns)
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			conns <- c.(*tls.Conn)
		}
	}()
	return l, lis.Addr().String(), conns
}

func raw(t *testing.T, address, first string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, first); err != nil {
		t.Fatal(err)
	}
	return c
}

// handshakeBegun is the first byte of every TLS connection.
const handshakeBegun = "\x16"

func TestHandshakesAreBoundedAndSilentConnectionsAreNone(t *testing.T) {
	t.Parallel()
	const most = 2
	l, address, accepted := listenLab(t, limits{10 * time.Second, most, 16})
	for range 4 {
		raw(t, address, "") // silent
	}
	client := l.ca.Client(t, nil)
	dial := func() error {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, client)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}
	if err := dial(); err != nil {
		t.Fatalf("beside silent connections: %v", err)
	}
	<-accepted
	var stuck []net.Conn
	for range most {
		stuck = append(stuck, raw(t, address, handshakeBegun))
	}
	// Both are in a handshake when a further one stays without an answer for as long as this.
	short := tls.Dialer{NetDialer: &net.Dialer{Timeout: 300 * time.Millisecond}, Config: client}
	for {
		c, err := short.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = c.Close()
		<-accepted
	}
	_ = stuck[0].Close()
	if err := dial(); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

func TestAHandshakeThatTakesTooLongIsEnded(t *testing.T) {
	t.Parallel()
	_, address, _ := listenLab(t, limits{50 * time.Millisecond, 2, 4})
	for _, first := range []string{"", handshakeBegun} {
		c := raw(t, address, first)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %q it was not ended: %v", first, err)
		}
	}
}

func TestTheDeadlineOfTheHandshakeDoesNotStay(t *testing.T) {
	t.Parallel()
	l, address, accepted := listenLab(t, limits{500 * time.Millisecond, 2, 4})
	c, err := tls.Dial("tcp", address, l.ca.Client(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := <-accepted
	timer := time.NewTimer(600 * time.Millisecond)
	<-timer.C
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestWhatAClientOfferedIsKnown(t *testing.T) {
	t.Parallel()
	l, address, accepted := listenLab(t, limits{10 * time.Second, 2, 4})
	for _, offer := range [][]string{{"h2"}, {"h2", "http/1.1"}, {"http/1.1"}, nil} {
		config := l.ca.Client(t, nil)
		config.NextProtos = offer
		c, err := tls.Dial("tcp", address, config)
		if err != nil {
			t.Fatal(err)
		}
		server := <-accepted
		got := server.NetConn().(interface{ Offered() []string }).Offered()
		if !slices.Equal(got, offer) {
			t.Errorf("offered %q, got %q", offer, got)
		}
		if want := append(offer, "")[0]; server.ConnectionState().NegotiatedProtocol != want {
			t.Errorf("of %q %q was settled", offer, server.ConnectionState().NegotiatedProtocol)
		}
		_ = c.Close()
	}
}

func TestClosingEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := l.options()
	c, err := l.open(t, o).Server("h2")
	if err != nil {
		t.Fatal(err)
	}
	lis := Listen(loopback(t), c, slog.New(slog.DiscardHandler))
	pending := raw(t, lis.Addr().String(), handshakeBegun)
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	_ = pending.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(pending); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a handshake goes on: %v", err)
	}
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
}

func TestTheLogSaysWhoIsRefusedButNotForEach(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c, err := l.open(t, l.options()).Server("h2")
	if err != nil {
		t.Fatal(err)
	}
	lis := Listen(loopback(t), c, l.options().Logger)
	t.Cleanup(func() { _ = lis.Close() })
	for range 50 {
		if conn, err := connect(lis.Addr().String(), l.ca.Client(t, nil)); err == nil {
			_ = conn.Close()
			t.Fatal("a client without a certificate was taken")
		}
	}
	if n := l.log.count("rejected connection"); n == 0 || n > 25 {
		t.Errorf("the log has %d lines about 50 connections", n)
	}
}
