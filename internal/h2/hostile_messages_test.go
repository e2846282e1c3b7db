package h2_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// pieces sends the bytes of a request in frames, the last of which ends it or does not.
func pieces(end bool, parts ...[]byte) func(w *wire, id uint32) {
	return func(w *wire, id uint32) {
		for i, p := range parts {
			w.data(id, p, end && i == len(parts)-1)
		}
	}
}

// TestMessagesThatLie: prefixes and ends that do not fit the bytes between them.
func TestMessagesThatLie(t *testing.T) {
	const head = ":status=200 content-type=application/grpc"
	status := func(code codes.Code, message string) string {
		return strings.TrimSuffix(fmt.Sprintf("%s grpc-status=%d grpc-message=%s", head, code, message), " grpc-message=")
	}
	echoed := func(what ...string) string { return head + ` | "` + strings.Join(what, `" "`) + `" | grpc-status=0` }
	hello := enclosed([]byte("hello"))
	var bytewise [][]byte
	for i := range hello {
		bytewise = append(bytewise, hello[i:i+1], nil)
	}
	limit := func(n string) string {
		return status(codes.ResourceExhausted, "grpc: received message larger than max ("+n+" vs. 100000)")
	}
	for _, c := range []struct {
		name          string
		act           func(w *wire, id uint32)
		unary, stream string
	}{
		{"one message", pieces(true, hello), echoed("hello"), echoed("hello")},
		{"one message byte by byte", pieces(true, bytewise...), echoed("hello"), echoed("hello")},
		{"one message and the end apart", pieces(true, hello, nil), echoed("hello"), echoed("hello")},
		{"no message", pieces(true, nil), status(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC"), status(codes.OK, "")},
		{"two messages", pieces(true, append(hello, hello...)), status(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC"), echoed("hello", "hello")},
		{"half a prefix", pieces(true, hello[:3]), status(codes.Internal, "unexpected EOF"), status(codes.Internal, "unexpected EOF")},
		{"a prefix and nothing", pieces(true, hello[:5]), status(codes.Internal, "unexpected EOF"), status(codes.Internal, "unexpected EOF")},
		{"half a message", pieces(true, hello[:7]), status(codes.Internal, "unexpected EOF"), status(codes.Internal, "unexpected EOF")},
		{"a message and half a prefix", pieces(true, append(hello, 0, 0)), "", head + ` | "hello" | grpc-status=13 grpc-message=unexpected EOF`},
		{"a message and a half", pieces(true, append(hello, hello[:7]...)), "", head + ` | "hello" | grpc-status=13 grpc-message=unexpected EOF`},
		{"a length beyond the limit", pieces(false, []byte{0, 0, 1, 0x86, 0xa1}), limit("100001") + " | NO_ERROR", limit("100001") + " | NO_ERROR"},
		{"a length of 4 GiB", pieces(false, []byte{0, 0xff, 0xff, 0xff, 0xff}), limit("4294967295") + " | NO_ERROR", limit("4294967295") + " | NO_ERROR"},
		{"a length of 4 GiB, and the end", pieces(true, []byte{0, 0xff, 0xff, 0xff, 0xff}), limit("4294967295"), limit("4294967295")},
		{"an unknown flag", pieces(true, []byte{7, 0, 0, 0, 0}), status(codes.Internal, "grpc: received unexpected payload format 7"), status(codes.Internal, "grpc: received unexpected payload format 7")},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				l := start(t, k, options{maxRecv: 100_000})
				for method, want := range map[string]string{"Unary": c.unary, "Bidi": c.stream} {
					if want == "" {
						continue
					}
					w := l.wire(t)
					id := w.call(method)
					c.act(w, id)
					w.ended(id)
					w.settle() // a reset comes behind the end, perhaps in another read
					got := strings.TrimPrefix(w.verdict(), "1: ")
					if !strings.HasSuffix(want, "NO_ERROR") {
						got = strings.TrimSuffix(got, " | NO_ERROR") // told before the end had come
					}
					if got != want {
						t.Errorf("%s: %s\nwant %s", method, got, want)
					}
					if fate := w.fate(); fate != alive {
						t.Errorf("%s: %s", method, fate)
					}
				}
			})
		})
	}
}

// TestRapidReset opens and resets streams whose handlers do not end: no more of them run than the connection may have.
func TestRapidReset(t *testing.T) {
	for _, c := range []struct {
		name          string
		maxStreams    uint32
		streams, most int64
		reference     bool // is as strict
	}{
		{"with a limit of streams", 5, 3000, 5, true},
		{"without one", 0, 3000, 1024, false}, // see the package's documentation
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				if k.name == "grpc-go" && !c.reference {
					t.Skip("the reference lets any number run")
				}
				rapidReset(t, k, c.maxStreams, c.streams, c.most)
			})
		})
	}
}

func rapidReset(t *testing.T, k kind, maxStreams uint32, streams, limit int64) {
	var running, most atomic.Int64
	hold := make(chan struct{})
	work := func() {
		n := running.Add(1)
		defer running.Add(-1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		<-hold
	}
	l := start(t, k, options{maxStreams: maxStreams,
		unary:  func(_ context.Context, in []byte) ([]byte, error) { work(); return in, nil },
		stream: func(grpc.ServerStream) error { work(); return nil }})
	w := l.wire(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range streams {
			id := w.call([]string{"Unary", "Bidi"}[i%2])
			w.message(id, []byte("x"), true)
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		}
	})
	eventually(t, "the handlers do not begin", func() bool { return running.Load() >= limit })
	within(t, "the flood", wg.Wait)
	other := l.dial(t)
	o := make(chan outcome, 1)
	go func() { o <- call(t, other, "Missing", nil) }()
	if got := receive(t, "another client's answer", o); got.status.Code() != codes.Unimplemented {
		t.Error(got)
	}
	close(hold)
	id := w.call("Unary")
	w.message(id, []byte("after"), true)
	w.ended(id)
	if n := most.Load(); n > limit {
		t.Errorf("%d handlers of one connection ran at once", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over && !strings.Contains(w.reply(id).String(), `"after"`) && w.reply(id).reset != "REFUSED_STREAM" {
		t.Errorf("afterwards: %s", w.reply(id))
	}
}

// TestFloodsOfResets sends thousands of streams that are reset at once, to handlers that end at once: the connection
// survives and the next call is served.
func TestFloodsOfResets(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		streams := 5000
		if *long && k.name != "grpc-go" { // which takes its time
			streams = 100_000
		}
		l := start(t, k, options{maxStreams: 100})
		w := l.wire(t)
		for i := range streams {
			id := w.call([]string{"Unary", "Bidi"}[i%2])
			if i%3 > 0 {
				w.message(id, []byte("x"), i%3 == 1)
			}
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		}
		w.settle()
		var got string
		for { // the last handlers may still count
			id := w.call("Unary")
			w.message(id, []byte("after"), true)
			w.ended(id)
			w.mu.Lock()
			got = w.reply(id).String()
			w.mu.Unlock()
			if got != "REFUSED_STREAM" {
				break
			}
		}
		if got != `:status=200 content-type=application/grpc | "after" | grpc-status=0` {
			t.Errorf("afterwards: %s", got)
		}
	})
}

// TestHalfFrames cuts the connection within a frame of each kind, at each byte: the server has done with it, and serves others.
func TestHalfFrames(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		whole := func(w *wire) []byte {
			var all []byte
			for _, f := range [][]byte{
				rawFrame(6, settings, 0, 0, 0, 4, 0, 0, 0, 9), rawFrame(8, ping, 0, 0, zeroes(8)...), rawFrame(4, update, 0, 0, 0, 0, 0, 9),
			} {
				all = append(all, f...)
			}
			b := w.encode(pairs("Bidi", "k", "v"))
			all = append(all, rawFrame(len(b), headers, flagHeadersEnd, 1, b...)...)
			all = append(all, rawFrame(8, data, 0, 1, enclosed([]byte("abc"))...)...)
			return append(all, rawFrame(4, reset, 0, 1, 0, 0, 0, 8)...)
		}
		preface := append([]byte(http2.ClientPreface), rawFrame(0, settings, 0, 0)...)
		n := len(preface) + len(whole(newWire(t, l.plug(t).conn)))
		for at := range n {
			w := l.plug(t)
			w.raw(append(preface[:len(preface):len(preface)], whole(w)...)[:at])
			_ = w.conn.Close()
		}
		if o := call(t, l.dial(t), "Unary", []byte("x")); o.status.Code() != codes.OK {
			t.Error(o)
		}
	})
}
