package h2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// TestGracefulStopLetsCallsEnd: those under way end well, new ones do not begin, and it waits for the last.
func TestGracefulStopLetsCallsEnd(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		release, entered := make(chan struct{}), make(chan struct{}, 20)
		l := start(t, k, options{
			unary: func(_ context.Context, in []byte) ([]byte, error) {
				if string(in) == "wait" {
					entered <- struct{}{}
					<-release
				}
				return in, nil
			},
			stream: func(s grpc.ServerStream) error { entered <- struct{}{}; return echoAll(s) },
		})
		conn, idle := l.dial(t), l.dial(t)
		if o := call(t, idle, "Unary", nil); o.status.Code() != codes.OK {
			t.Fatal(o)
		}
		var unary sync.WaitGroup
		for range 10 {
			unary.Go(func() {
				if o := call(t, conn, "Unary", []byte("wait")); string(o.body) != "wait" {
					t.Errorf("a call under way: %v", o)
				}
			})
		}
		s := open(deadline(t), t, conn, "Bidi")
		for range 11 {
			receive(t, "a handler", entered)
		}
		stopped := make(chan struct{})
		go func() { defer close(stopped); l.GracefulStop() }()
		// The first that is refused tells that the stop has begun; the clients may still be told that it has.
		for {
			o := call(t, idle, "Unary", nil)
			if o.status.Code() == codes.Unavailable {
				break
			}
			if o.status.Code() != codes.OK {
				t.Fatalf("a call after the stop began: %v", o)
			}
		}
		if c, err := net.Dial("tcp", l.address.String()); err == nil {
			w := newWire(t, c)
			w.hello()
			if err := w.drained(); errors.Is(err, context.DeadlineExceeded) {
				t.Error("a new connection is kept")
			}
		}
		for i := range 5 {
			say(t, s, fmt.Append(nil, i))
			if out, err := hear(s); err != nil || string(out) != fmt.Sprint(i) {
				t.Fatalf("the stream under way: %q, %v", out, err)
			}
		}
		select {
		case <-stopped:
			t.Fatal("GracefulStop does not wait")
		default:
		}
		close(release)
		unary.Wait()
		_ = s.CloseSend()
		if _, err := hear(s); err != io.EOF {
			t.Errorf("the stream's end is %v", err)
		}
		receive(t, "the end of GracefulStop", stopped)
		if err := receive(t, "the end of Serve", l.done); err != nil {
			t.Errorf("Serve returns %v", err)
		}
		l.GracefulStop()
		l.Stop()
	})
}

// TestGracefulStopOnTheWire: two GOAWAY with a ping between them, streams that cross the first are served, those that come after
// the second are not, and the connection ends with its last stream.
func TestGracefulStopOnTheWire(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		release, entered := make(chan struct{}), make(chan struct{}, 3)
		l := start(t, k, options{unary: func(_ context.Context, in []byte) ([]byte, error) {
			entered <- struct{}{}
			<-release
			return in, nil
		}})
		w := l.plug(t)
		w.noPong = true
		w.hello()
		w.listen()
		one := w.call("Unary")
		w.message(one, []byte("one"), true)
		receive(t, "the handler", entered)
		stopped := make(chan struct{})
		go func() { defer close(stopped); l.GracefulStop() }()
		last := func() asked { return append([]asked{{}}, w.pinged...)[len(w.pinged)] }
		w.wait("the first GOAWAY and a ping", func() bool { return len(w.goaways) == 1 && last().gone == 1 })
		w.mu.Lock()
		first, debug, ping := w.goaways[0], w.debugs[0], last().data
		w.mu.Unlock()
		if first.LastStreamID != 1<<31-1 || first.ErrCode != http2.ErrCodeNo || debug != "graceful_stop" {
			t.Errorf("the first GOAWAY: %v %q", first, debug)
		}
		two := w.call("Unary")
		w.message(two, []byte("two"), true)
		receive(t, "the handler", entered)
		w.pong([8]byte{1})
		w.pong(ping)
		w.wait("the second GOAWAY", func() bool { return len(w.goaways) == 2 })
		w.mu.Lock()
		second := w.goaways[1]
		w.mu.Unlock()
		if second.LastStreamID != two || second.ErrCode != http2.ErrCodeNo {
			t.Errorf("the second GOAWAY: %v", second)
		}
		three := w.call("Unary")
		w.message(three, []byte("three"), true)
		w.send(func(f *http2.Framer) error { return f.WriteWindowUpdate(three, 10) })
		w.send(func(f *http2.Framer) error { return f.WriteRSTStream(three, http2.ErrCodeCancel) })
		w.settle()
		close(release)
		w.ended(one, two)
		w.closed()
		const ok = ":status=200 content-type=application/grpc"
		if got, want := w.verdict(), fmt.Sprintf("1: %s | \"one\" | grpc-status=0\n3: %s | \"two\" | grpc-status=0\ncut", ok, ok); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
		w.mu.Lock()
		if len(w.goaways) != 2 {
			t.Errorf("GOAWAY %v %q", w.goaways, w.debugs)
		}
		w.mu.Unlock()
		receive(t, "the end of GracefulStop", stopped)
	})
}

// TestGracefulStopWithoutCalls ends connections that do nothing, and those that have not begun.
func TestGracefulStopWithoutCalls(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		w := l.wire(t)
		w.settle()
		within(t, "GracefulStop", l.GracefulStop)
		w.closed()
		if err := receive(t, "the end of Serve", l.done); err != nil {
			t.Errorf("Serve returns %v", err)
		}
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("Serve after the stop returns %v", err)
		}
		if c, err := lis.Accept(); err == nil {
			_ = c.Close()
			t.Error("the listener is left open")
		}
	})
}

// TestStopCutsAll: calls under way end with Unavailable, contexts of handlers are done, and Stop returns after the last handler.
func TestStopCutsAll(t *testing.T) {
	for _, graceful := range []bool{false, true} {
		t.Run(fmt.Sprintf("graceful first %v", graceful), func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				var running atomic.Int32
				entered, hold := make(chan struct{}, 20), make(chan struct{})
				wait := func(ctx context.Context) error {
					running.Add(1)
					defer running.Add(-1)
					entered <- struct{}{}
					<-ctx.Done()
					<-hold
					return ctx.Err()
				}
				l := start(t, k, options{
					unary:  func(ctx context.Context, _ []byte) ([]byte, error) { return nil, wait(ctx) },
					stream: func(s grpc.ServerStream) error { return wait(s.Context()) },
				})
				conn := l.dial(t)
				errs := make(chan error, 20)
				for range 5 {
					go func() { errs <- call(t, conn, "Unary", []byte("x")).status.Err() }()
					s := open(deadline(t), t, conn, "Bidi")
					go func() { _, err := hear(s); errs <- err }()
				}
				for range 10 {
					receive(t, "a handler", entered)
				}
				stopped := make(chan struct{}, 2)
				stops := 1
				if graceful {
					stops++
					w := l.wire(t)
					w.settle()
					go func() { l.GracefulStop(); stopped <- struct{}{} }()
					w.wait("a GOAWAY", func() bool { return len(w.goaways) > 0 })
				}
				go func() { l.Stop(); stopped <- struct{}{} }()
				for range 10 {
					if c := grpcCode(receive(t, "the end of a call", errs)); c != codes.Unavailable {
						t.Errorf("a call ends with %v", c)
					}
				}
				if running.Load() != 10 {
					t.Errorf("%d handlers run", running.Load())
				}
				select {
				case <-stopped:
					t.Error("Stop does not wait for handlers")
				default:
				}
				close(hold)
				for range stops {
					receive(t, "the end of Stop", stopped)
				}
				if n := running.Load(); n != 0 {
					t.Errorf("%d handlers run after Stop", n)
				}
				if err := receive(t, "the end of Serve", l.done); err != nil {
					t.Errorf("Serve returns %v", err)
				}
			})
		})
	}
}

// TestStopCutsWritersAndNewcomers: handlers that wait for a client that does not read, and connections that have said nothing.
func TestStopCutsWritersAndNewcomers(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		entered, ended := make(chan struct{}, 10), make(chan error, 10)
		l := start(t, k, options{stream: func(s grpc.ServerStream) error {
			entered <- struct{}{}
			for {
				if err := s.SendMsg(&message{pattern(100_000)}); err != nil {
					ended <- err
					return err
				}
			}
		}})
		for _, windows := range []bool{true, false} {
			w := l.plug(t)
			if windows {
				w.widen() // the kernel's buffers are what is full
			} else {
				w.hello()
			}
			for range 3 {
				w.data(w.call("Server"), enclosed(nil), true)
				receive(t, "a handler", entered)
			}
		}
		var newcomers []*wire
		if k.name != "grpc-go" { // which waits for them until their handshake times out
			newcomers = []*wire{l.plug(t), l.plug(t)}
			newcomers[1].raw([]byte(http2.ClientPreface[:10]))
		}
		within(t, "Stop", l.Stop)
		for range 6 {
			if err := receive(t, "the end of a writer", ended); grpcCode(err) == codes.OK {
				t.Errorf("a writer ends with %v", err)
			}
		}
		for _, w := range newcomers {
			if err := w.drained(); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("a newcomer: %v", err)
			}
		}
	})
}
