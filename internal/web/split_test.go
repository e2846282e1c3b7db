package web

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is more than any of these tests takes.
const patience = 2 * time.Minute

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
	grpc := opened(t, settings(false), request(1, "application/grpc+proto"))
	waiting := opened(t, settings(false))
	plain := opened(t, settings(false), request(1, ""))
	confused := http2.ClientPreface + "and no frames at all"
	for _, c := range []struct {
		name  string
		parts []string
		grpc  bool
	}{
		{"a gRPC request in one write", []string{grpc}, true},
		{"a gRPC request byte by byte", strings.Split(grpc, ""), true},
		{"a gRPC request after much else", []string{opened(t, settings(false), window, window, ping, settings(true), request(1, "application/grpc"))}, true},
		{"a gRPC request with much metadata", []string{opened(t, settings(false), request(1, "application/grpc", strings.Repeat("x", 4*openingBytesMax)))}, true},
		{"a gRPC request with much metadata in many headers", []string{opened(t, settings(false),
			request(1, "application/grpc", slices.Repeat([]string{strings.Repeat("x", 1<<10)}, 4*openingBytesMax>>10)...))}, true},
		{"a gRPC request with random metadata", []string{opened(t, settings(false), request(1, "application/grpc", noise(4*openingBytesMax)))}, true},
		{"HTTP/2 that is no gRPC, with large headers", []string{opened(t, settings(false), request(1, "text/html", strings.Repeat("x", 4*openingBytesMax)))}, false},
		{"HTTP/2 that asks nothing", []string{waiting}, true},
		{"HTTP/2 that is no gRPC", []string{plain}, false},
		{"HTTP/2 that is no gRPC, byte by byte", strings.Split(plain, ""), false},
		{"the preface of HTTP/2 and no frames", []string{confused}, false},
		{"a GET", []string{"GET /version HTTP/1.1\r\n\r\n"}, false},
		{"a method that begins like the preface", []string{"PR", "OPFIND / HTTP/1.1\r\n\r\n"}, false},
		{"the preface of another version", []string{"PRI * HTTP/3.0\r\n\r\n"}, false},
		{"a single byte and the end", []string{"x"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lis := listen(t)
			forGRPC, http := split(lis, patience, patience)
			client := dial(t, lis)
			send(t, client, c.parts...)
			_ = client.(*net.TCPConn).CloseWrite()
			half := http
			if c.grpc {
				half = forGRPC
			}
			if got, want := accepted(t, half), strings.Join(c.parts, ""); got != want {
				t.Errorf("read %q, want %q", got, want)
			}
		})
	}
}

// emptySettings is the frame with which the splitter greets a client.
const emptySettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"

// write writes a frame.
type write func(f *http2.Framer) error

func settings(ack bool) write {
	return func(f *http2.Framer) error {
		if ack {
			return f.WriteSettingsAck()
		}
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	}
}

func window(f *http2.Framer) error { return f.WriteWindowUpdate(0, 1<<20) }
func ping(f *http2.Framer) error   { return f.WritePing(false, [8]byte{1}) }

// request is a request with a content type and metadata, or a GET where the type is empty, in several frames.
func request(stream uint32, contentType string, metadata ...string) write {
	return func(f *http2.Framer) error {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		fields := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.KV/Range"}, {":authority", "x"}, {"content-type", contentType}}
		if contentType == "" {
			fields[0][1], fields[2][1] = "GET", "/version"
			fields = fields[:4]
		}
		for _, value := range metadata {
			fields = append(fields, [2]string{"metadata", value})
		}
		for _, x := range fields {
			if err := e.WriteField(hpack.HeaderField{Name: x[0], Value: x[1]}); err != nil {
				return err
			}
		}
		b, half := block.Bytes(), min(block.Len()/2, 1<<14)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b[:half], EndStream: contentType == ""}); err != nil {
			return err
		}
		for b = b[half:]; len(b) > 1<<14; b = b[1<<14:] {
			if err := f.WriteContinuation(stream, false, b[:1<<14]); err != nil {
				return err
			}
		}
		return f.WriteContinuation(stream, true, b)
	}
}

// noise is a text that compresses badly, the same in each run.
func noise(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + r.IntN('~'-' '))
	}
	return string(b)
}

// opened is what an HTTP/2 client sends.
func opened(t testing.TB, frames ...write) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	for _, w := range frames {
		if err := w(f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestAClientThatWaitsIsGreetedAndTakenForGRPC(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	forGRPC, _ := split(lis, peekTimeout, 50*time.Millisecond)
	c := dial(t, lis)
	send(t, c, opened(t, settings(false)))
	greeting := make([]byte, len(emptySettings))
	if _, err := io.ReadFull(c, greeting); err != nil || string(greeting) != emptySettings {
		t.Fatalf("greeted with %q, %v", greeting, err)
	}
	server, err := forGRPC.Accept()
	if err != nil {
		t.Fatal(err)
	}
	rest := opened(t, settings(true))[len(http2.ClientPreface):]
	send(t, c, rest)
	_ = c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(server); err != nil || string(b) != opened(t, settings(false), settings(true)) {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestASilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	split(lis, 20*time.Millisecond, requestWait)
	c := dial(t, lis)
	send(t, c, "PRI")
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it was answered")
	}
}

// timed is a listener whose connections remember the last deadline of their reads.
type timed struct{ net.Listener }

type timedConn struct {
	net.Conn
	deadline time.Time
}

func (l timed) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &timedConn{Conn: c}, err
}

func (c *timedConn) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

func (c *timedConn) SetDeadline(t time.Time) error {
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

func TestTheDeadlineOfPeekingDoesNotStay(t *testing.T) {
	t.Parallel()
	lis := listen(t)
	forGRPC, http := split(timed{lis}, patience, patience)
	for begin, half := range map[string]net.Listener{"G": http, opened(t, settings(false), request(1, "application/grpc")): forGRPC} {
		send(t, dial(t, lis), begin)
		server, err := half.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if beneath, ok := server.(interface{ WritesTo() net.Conn }).WritesTo().(*timedConn); !ok || beneath != server.(*replayed).Conn {
			t.Errorf("what is written after %q goes to %T", begin, beneath)
		}
		if at := server.(*replayed).Conn.(*timedConn).deadline; !at.IsZero() {
			t.Errorf("after %q reads must end by %v", begin, at)
		}
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
	send(t, refused, opened(t, settings(false), request(1, "application/grpc")))
	if b, err := io.ReadAll(refused); len(b) != len(emptySettings) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection to a closed half was answered: %q, %v", b, err)
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
