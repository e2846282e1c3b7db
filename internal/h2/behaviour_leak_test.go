package h2_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// labelled runs f with a label that all goroutines inherit which it starts, and returns a count of those.
func labelled(t *testing.T, f func()) (count func() int) {
	label := strings.ReplaceAll(t.Name(), "/", "_")
	pprof.Do(context.Background(), pprof.Labels("of", label), func(context.Context) { f() })
	return func() int {
		var b bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		total := 0
		for _, group := range strings.Split(b.String(), "\n\n") {
			if strings.Contains(group, fmt.Sprintf(`"of":%q`, label)) {
				n := 0
				_, _ = fmt.Sscanf(strings.TrimSpace(group[strings.LastIndex("\n"+group[:strings.Index(group, " @")], "\n"):]), "%d @", &n)
				total += n
			}
		}
		return total
	}
}

// eventually waits until a count is what it should be.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s\n%s", what, stacks())
		}
	}
}

// TestConnectionsLeaveNoGoroutines opens many connections that end in each way.
func TestConnectionsLeaveNoGoroutines(t *testing.T) {
	rounds := 12
	if *long {
		rounds = 300
	}
	endings := map[string]func(w *wire){
		"silent":          func(*wire) {},
		"half a preface":  func(w *wire) { w.raw([]byte(http2.ClientPreface[:12])) },
		"a wrong preface": func(w *wire) { w.raw([]byte("GET / HTTP/1.1\r\nHost: lab\r\n\r\n")); _ = w.drained() },
		"half a frame":    func(w *wire) { w.hello(); w.raw([]byte{0, 0, 9, 0}) },
		"no settings":     func(w *wire) { w.raw([]byte(http2.ClientPreface)) },
		"settings":        func(w *wire) { w.hello(); w.listen(); w.settle() },
		"an answer": func(w *wire) {
			w.hello()
			w.listen()
			id := w.call("Unary")
			w.message(id, []byte("x"), true)
			w.ended(id)
		},
		"a stream": func(w *wire) {
			w.hello()
			w.listen()
			id := w.call("Bidi")
			w.message(id, []byte("x"), false)
			w.wait("an echo", func() bool { return w.reply(id).data.Len() > 0 })
		},
		"a stream with less": func(w *wire) { w.hello(); id := w.call("Bidi"); w.data(id, enclosed(pattern(1000))[:500], false) },
		"a deaf client":      func(w *wire) { w.widen(); w.message(w.call("Unary"), pattern(3<<20), true) },
		"a closed window": func(w *wire) {
			w.hello()
			w.message(w.call("Unary"), pattern(50_000), true)
			w.message(w.call("Unary"), pattern(50_000), true)
		},
		"a connection error":   func(w *wire) { w.hello(); w.listen(); w.data(0, []byte("x"), true); w.refused() },
		"a handler that waits": func(w *wire) { w.hello(); w.listen(); w.message(w.call("Server"), []byte("x"), false) },
		"with a deadline":      func(w *wire) { w.hello(); w.listen(); id := w.call("Bidi", "grpc-timeout", "5m"); w.ended(id) },
	}
	both(t, func(t *testing.T, k kind) {
		var l *lab
		var lis net.Listener
		count := labelled(t, func() {
			var err error
			if lis, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			l = startOn(t, k, lis, options{stream: func(s grpc.ServerStream) error {
				if name, _ := grpc.Method(s.Context()); name == "/lab.Lab/Server" {
					<-s.Context().Done()
					return nil
				}
				return echoAll(s)
			}})
		})
		quiet := count() + 64 // workers that stay
		for range rounds {
			for name, end := range endings {
				w := l.plug(t)
				end(w)
				if t.Failed() {
					t.Fatalf("%s: %s", name, w.verdict())
				}
				_ = w.conn.Close()
			}
		}
		eventually(t, "goroutines are left of connections that have ended", func() bool { return count() <= quiet })
		within(t, "Stop", l.Stop)
		eventually(t, "goroutines are left of a server that was stopped", func() bool { return count() == 0 })
	})
}

// TestCallsResetBeforeTheirAnswersAreSent: a client that gives the connection no window costs what it has open, not what it has had. Like
// TestFloods this measures the process.
func TestCallsResetBeforeTheirAnswersAreSent(t *testing.T) {
	const rounds, calls, trailer, allowed = 20, 20, 256 << 10, 32 << 20
	l := start(t, kind{"h2", ours}, options{unary: func(ctx context.Context, in []byte) ([]byte, error) {
		return in, grpc.SetTrailer(ctx, metadata.Pairs("big", strings.Repeat("x", trailer)))
	}})
	w := l.wire(t)
	spend := w.call("Server")
	w.message(spend, pattern(100_000), true) // more than the window of the connection
	w.wait("the end of the window", func() bool { return w.reply(spend).data.Len() == 65535 })
	before := heap()
	for range rounds {
		var ids []uint32
		for range calls {
			id := w.call("Unary")
			w.message(id, []byte("x"), true)
			ids = append(ids, id)
		}
		for _, id := range ids { // its headers need no window
			w.wait("the headers of an answer", func() bool { return len(w.reply(id).heads) > 0 })
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		}
		w.settle()
	}
	if after := heap(); after > before+allowed {
		t.Errorf("%d calls that were reset keep %d MiB", rounds*calls, (after-before)>>20)
	}
	// What waits is sent once there is a window.
	w.grant(0, 1<<20)
	w.grant(spend, 1<<20)
	w.ended(spend)
	if got := w.received(spend); got != 5+100_000 {
		t.Errorf("%d bytes of the answer that waited", got)
	}
}
