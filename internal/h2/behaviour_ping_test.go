package h2_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// counted counts what is written to the connections of a listener.
type counted struct {
	net.Listener
	writes atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{c, &l.writes}, nil
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// asks sends a request and a ping with these data in one write.
func (w *wire) asks(mark [8]byte) (id uint32) {
	id = w.next
	w.next += 2
	var all bytes.Buffer
	f := http2.NewFramer(&all, nil)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.encode(pairs("Unary")), EndHeaders: true})
	_ = f.WritePing(false, mark)
	_ = f.WriteData(id, true, enclosed([]byte("x")))
	w.raw(all.Bytes())
	return id
}

func TestAPingIsAcknowledgedWhileNoAnswerComes(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		over := make(chan struct{})
		l := start(t, k, options{unary: func(_ context.Context, in []byte) ([]byte, error) { <-over; return in, nil }})
		defer close(over)
		w := l.wide(t)
		for i := range byte(3) {
			mark := [8]byte{i + 1}
			w.asks(mark)
			w.wait("the acknowledgement", func() bool { return w.pings[mark] })
		}
	})
}

// TestAPingThatComesWithARequestGoesWithItsAnswer: two writes would wake the client twice. A handler that is slow makes two.
func TestAPingThatComesWithARequestGoesWithItsAnswer(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis := &counted{Listener: tcp}
	w := startOn(t, kind{"h2", ours}, lis, options{}).wide(t)
	w.settle()
	const calls = 200
	before := lis.writes.Load()
	for range calls {
		w.ended(w.asks([8]byte{1}))
	}
	if n := lis.writes.Load() - before; n > calls*7/4 {
		t.Errorf("%d writes for %d answers", n, calls)
	}
}
