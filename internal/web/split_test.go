package web

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis
}

func dial(t *testing.T, lis net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
}

// accepted returns all that the next connection of l sends until it is closed.
func accepted(t *testing.T, l net.Listener) string {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConnectionsGoWhereTheirFirstBytesSay(t *testing.T) {
	t.Parallel()
	h2 := preface + "\r\n\r\nSM\r\n\r\nand frames"
	for _, c := range []struct {
		name  string
		parts []string
		grpc  bool
	}{
		{"HTTP/2 in one write", []string{h2}, true},
		{"HTTP/2 byte by byte", strings.Split(h2, ""), true},
		{"a GET", []string{"GET /version HTTP/1.1\r\n\r\n"}, false},
		{"a method that begins like the preface", []string{"PR", "OPFIND / HTTP/1.1\r\n\r\n"}, false},
		{"the preface of another version", []string{"PRI * HTTP/3.0\r\n\r\n"}, false},
		{"a single byte and the end", []string{"x"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lis := listen(t)
			grpc, http := Split(lis)
			client := dial(t, lis)
			send(t, client, c.parts...)
			_ = client.Close()
			half := http
			if c.grpc {
				half = grpc
			}
			if got, want := accepted(t, half), strings.Join(c.parts, ""); got != want {
				t.Errorf("read %q, want %q", got, want)
			}
		})
	}
}

func TestASilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	split(lis, 20*time.Millisecond)
	c := dial(t, lis)
	send(t, c, "PRI")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it was answered")
	}
}

func TestTheDeadlineOfPeekingDoesNotStay(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	_, http := split(lis, 100*time.Millisecond)
	c := dial(t, lis)
	send(t, c, "G")
	server, err := http.Accept()
	if err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(150 * time.Millisecond)
	<-timer.C
	send(t, c, "ET")
	b := make([]byte, 3)
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "GET" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestClosingTheListenerEndsBothHalves(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	grpc, http := Split(lis)
	_ = lis.Close()
	for _, l := range []net.Listener{grpc, http} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
	}
}

func TestAHalfIsClosedByItself(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	grpc, http := Split(lis)
	if err := grpc.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := grpc.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept of the closed half: %v", err)
	}
	if err := grpc.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
	refused := dial(t, lis)
	send(t, refused, preface)
	if _, err := refused.Read(make([]byte, 1)); err == nil {
		t.Error("a connection to a closed half was answered")
	}
	c := dial(t, lis)
	send(t, c, "GET")
	_ = c.Close()
	if got := accepted(t, http); got != "GET" {
		t.Errorf("the other half read %q", got)
	}

	pending := dial(t, lis)
	if err := http.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := pending.Read(make([]byte, 1)); err == nil {
		t.Error("a pending connection was answered")
	}
	if _, err := net.Dial("tcp", lis.Addr().String()); err == nil {
		t.Error("the address is still bound")
	}
}
