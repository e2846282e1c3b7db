package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
)

// recorder is a connection that keeps what is written to it.
type recorder struct {
	net.Conn
	bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) { return r.Buffer.Write(b) }
func (r *recorder) Read([]byte) (int, error)    { return 0, io.EOF }
func (r *recorder) Close() error                { return nil }

// recorded returns the bytes that a client sends.
func recorded(t testing.TB, act func(w *wire)) []byte {
	r := new(recorder)
	act(newWire(t, r))
	return r.Bytes()
}

// seeds are what clients of other tests send after their preface.
func seeds(t testing.TB) [][]byte {
	begin := func(w *wire) {
		w.set()
		w.message(w.call("Bidi"), []byte("x"), false)
		w.message(w.call("Unary"), nil, true)
		w.message(w.call("Server"), nil, true)
	}
	var out [][]byte
	for _, c := range slices.Concat(misplaced, oddHeaders) {
		out = append(out, recorded(t, func(w *wire) { begin(w); c.act(w) }))
	}
	out = append(out, nil, recorded(t, func(w *wire) {
		w.set(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0},
			http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 100})
		for _, kv := range [][]string{pairs("Unary"), pairs("Unary"), pairs("Unary", "k-bin", "AAEC"), pairs("Bidi", "grpc-timeout", "1m"), pairs("Unary", "grpc-encoding", "gzip")} {
			id := w.next
			w.next += 2
			w.headers(id, false, kv...)
			w.message(id, []byte("hello"), true)
			w.grant(id, 100)
		}
		w.data(1, compressed(zipped([]byte("hello"))), true)
	}))
	return out
}

// FuzzConnection sends any bytes after a preface, and then half-closes: the server ends the connection and serves the next.
func FuzzConnection(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	dir, err := os.MkdirTemp("", "h2") // f.TempDir is too long for a socket under the fuzzer
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.RemoveAll(dir) })
	lis, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		f.Fatal(err)
	}
	var running atomic.Int64
	l := startOn(f, kind{"h2", ours}, lis, options{maxRecv: 1 << 20, maxStreams: 50, stream: func(s grpc.ServerStream) error {
		running.Add(1)
		defer running.Add(-1)
		return echoAll(s)
	}})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := l.plug(t)
		written := make(chan struct{})
		go func() {
			defer close(written)
			w.raw([]byte(http2.ClientPreface))
			w.raw(b)
			_ = w.conn.(*net.UnixConn).CloseWrite()
		}()
		_ = w.conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, w.conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("the connection does not end\n%s", stacks())
		}
		<-written
		_ = w.conn.Close()
		eventually(t, "a handler does not end", func() bool { return running.Load() == 0 })
	})
}
