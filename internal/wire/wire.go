// Package wire speaks HTTP/2 by hand, for tests of what gRPC does unseen: pings, and the settings that it begins with.
//
// # Rules
//
//  1. Nothing answers the other side's pings unless a test does.
//  2. What cannot be done fails the test. A connection ends a minute before all tests of the process must.
//  3. No program of ours uses it.
package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// keptMax bounds the pings that wait to be looked at.
const keptMax = 1000

// Conn is one side of a connection. Its methods belong to one goroutine.
type Conn struct {
	framer  *http2.Framer
	pings   chan bool     // that came; true for answers. Closed with the connection
	streams chan uint32   // the most requests that the other side takes; holds one
	asked   chan struct{} // closed when the first headers came
}

// Dial connects as a client, and begins a watch, so that a request is under way. The connection is closed with the test.
func Dial(tb testing.TB, network, address string) *Conn {
	tb.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	c := over(tb, conn)
	_, err = io.WriteString(conn, http2.ClientPreface)
	var header bytes.Buffer
	fields := hpack.NewEncoder(&header)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/etcdserverpb.Watch/Watch"}, {":authority", "m"},
		{"content-type", "application/grpc"}, {"te", "trailers"}} {
		err = errors.Join(err, fields.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
	}
	err = errors.Join(err, c.framer.WriteSettings(),
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true}))
	if err != nil {
		tb.Fatal(err)
	}
	go c.read()
	return c
}

// Accept takes a connection as a server. It is closed with the test.
func Accept(tb testing.TB, l net.Listener) *Conn {
	tb.Helper()
	conn, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	c := over(tb, conn)
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		tb.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		tb.Fatal(err)
	}
	go c.read()
	return c
}

func over(tb testing.TB, conn net.Conn) *Conn {
	tb.Helper()
	tb.Cleanup(func() { _ = conn.Close() })
	// The tests may read long after this: they have as long as all of the process's.
	if t, ok := tb.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, any := t.Deadline(); any {
			if err := conn.SetDeadline(end.Add(-time.Minute)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return &Conn{http2.NewFramer(conn, conn), make(chan bool, keptMax), make(chan uint32, 1), make(chan struct{})}
}

func (c *Conn) read() {
	asked := sync.OnceFunc(func() { close(c.asked) })
	defer asked()
	defer close(c.streams)
	defer close(c.pings)
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			select {
			case c.pings <- f.IsAck():
			default: // nobody looks
			}
		case *http2.SettingsFrame:
			if n, ok := f.Value(http2.SettingMaxConcurrentStreams); ok && len(c.streams) == 0 {
				c.streams <- n
			}
		case *http2.HeadersFrame:
			asked()
		}
	}
}

// WaitRequest returns when the other side has begun a request.
func (c *Conn) WaitRequest() { <-c.asked }

// MaxStreams waits until the other side says how many requests it takes at a time. It is 0 when the connection ends before, and called
// once.
func (c *Conn) MaxStreams() uint32 { return <-c.streams }

// Answers pings, and tells whether the other side answers that before it pings itself or ends the connection.
func (c *Conn) Answers() bool {
	return c.framer.WritePing(false, [8]byte{1}) == nil && <-c.pings
}

// WaitPing waits for a ping of the other side.
func (c *Conn) WaitPing(tb testing.TB) {
	tb.Helper()
	if answer, ok := <-c.pings; !ok || answer {
		tb.Fatalf("in place of a ping there is an answer: %v, or the end: %v", answer, !ok)
	}
}

// WaitEnd returns when the connection has ended.
func (c *Conn) WaitEnd() {
	for range c.pings { // until it is closed
	}
}
