package h2_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestDeadlinesAreSeen: a handler knows the deadline of its call, and that there is none.
func TestDeadlinesAreSeen(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		type sight struct {
			at  time.Time
			has bool
			err error
		}
		saw := make(chan sight, 1)
		look := func(ctx context.Context) {
			at, has := ctx.Deadline()
			child, stop := context.WithTimeout(ctx, 1000*time.Hour)
			defer stop()
			if other, ok := child.Deadline(); has && (!ok || !other.Equal(at)) {
				at = other
			}
			saw <- sight{at, has, errors.Join(ctx.Err(), child.Err())}
		}
		l := start(t, k, options{
			unary:  func(ctx context.Context, _ []byte) ([]byte, error) { look(ctx); return nil, nil },
			stream: func(s grpc.ServerStream) error { look(s.Context()); return nil },
		})
		conn := l.dial(t)
		for _, timeout := range []time.Duration{0, time.Hour, 30 * time.Minute, 77 * time.Hour} {
			for _, method := range []string{"Unary", "Bidi", "Unary", "Bidi"} {
				ctx, cancel := context.WithCancel(context.Background())
				before := time.Now()
				if timeout > 0 {
					ctx, cancel = context.WithTimeout(ctx, timeout)
				}
				if method == "Unary" {
					callIn(ctx, conn, "/lab.Lab/Unary", nil)
				} else {
					_, _ = hear(open(ctx, t, conn, "Bidi"))
				}
				after := time.Now()
				cancel()
				s := receive(t, "the handler", saw)
				if s.err != nil {
					t.Errorf("%s, %v: ended with %v", method, timeout, s.err)
				}
				if s.has != (timeout > 0) {
					t.Errorf("%s, %v: deadline %v", method, timeout, s.at)
				}
				// grpc-timeout has eight digits: the deadline may move by as much as its unit.
				if s.has && (s.at.Before(before.Add(timeout-time.Second)) || s.at.After(after.Add(timeout+time.Second))) {
					t.Errorf("%s, %v: deadline %v, called between %v and %v", method, timeout, s.at, before, after)
				}
			}
		}
	})
}

// TestDeadlinesEnd: contexts of calls past their deadline are done, with children, in handlers that wait in each way.
func TestDeadlinesEnd(t *testing.T) {
	waits := map[string]func(ctx context.Context, s grpc.ServerStream) error{
		"for its context": func(ctx context.Context, _ grpc.ServerStream) error { <-ctx.Done(); return ctx.Err() },
		"for a child": func(ctx context.Context, _ grpc.ServerStream) error {
			child, stop := context.WithCancel(context.WithValue(ctx, key{}, 1))
			defer stop()
			<-child.Done()
			return errors.Join(child.Err(), ctx.Err())
		},
		"for a function": func(ctx context.Context, _ grpc.ServerStream) error {
			done := make(chan struct{})
			context.AfterFunc(ctx, func() { close(done) })
			<-done
			return ctx.Err()
		},
		"asking for the error": func(ctx context.Context, _ grpc.ServerStream) error {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
			}
			<-ctx.Done()
			return ctx.Err()
		},
		"for messages": func(ctx context.Context, s grpc.ServerStream) error {
			if s == nil {
				<-ctx.Done()
				return ctx.Err()
			}
			_, err := hear(s)
			for err == nil {
				_, err = hear(s)
			}
			<-ctx.Done()
			if c := status.Code(err); c != codes.DeadlineExceeded && c != codes.Canceled {
				return err
			}
			return ctx.Err()
		},
		"for a client that does not read": func(ctx context.Context, s grpc.ServerStream) error {
			if s == nil {
				<-ctx.Done()
				return ctx.Err()
			}
			for {
				if err := s.SendMsg(&message{pattern(100_000)}); err != nil {
					<-ctx.Done()
					return ctx.Err()
				}
			}
		},
	}
	both(t, func(t *testing.T, k kind) {
		for name, wait := range waits {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				saw := make(chan error, 1)
				l := start(t, k, options{
					unary: func(ctx context.Context, _ []byte) ([]byte, error) {
						err := wait(ctx, nil)
						saw <- err
						return nil, err
					},
					stream: func(s grpc.ServerStream) error { err := wait(s.Context(), s); saw <- err; return err },
				})
				conn := l.dial(t)
				// As metadata, grpc-timeout is of the server alone: this client waits for what the server says.
				for _, method := range []string{"Unary", "Bidi"} {
					w := l.wire(t)
					id := w.call(method, "grpc-timeout", "20m")
					w.message(id, []byte("x"), method == "Unary")
					err := receive(t, "the handler", saw)
					if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
						t.Errorf("%s: the handler sees %v", method, err)
					}
					w.ended(id)
				}
				// The stock client has a deadline of its own.
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
				o := callIn(ctx, conn, "/lab.Lab/Unary", []byte("x"))
				cancel()
				if o.status.Code() != codes.DeadlineExceeded {
					t.Errorf("the client sees %v", o)
				}
			})
		}
	})
}

// TestContextsAreLive: what a handler sees of its context while it works, and after it returned.
func TestContextsAreLive(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		kept := make(chan []context.Context, 1)
		l := start(t, k, options{unary: func(ctx context.Context, _ []byte) ([]byte, error) {
			child, stop := context.WithCancel(ctx)
			_ = stop // the end of the call is what ends it
			if err := errors.Join(ctx.Err(), child.Err(), context.Cause(ctx)); err != nil {
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, errors.New("done at once")
			default:
			}
			if ctx.Value(key{}) != nil {
				return nil, errors.New("a value from nowhere")
			}
			if name, ok := grpc.Method(ctx); !ok || name != "/lab.Lab/Unary" {
				return nil, errors.New(name)
			}
			if s := grpc.ServerTransportStreamFromContext(child); s == nil || s.Method() != "/lab.Lab/Unary" {
				return nil, errors.New("no stream in the context")
			}
			free := context.WithoutCancel(ctx)
			if md, ok := metadata.FromIncomingContext(free); !ok || len(md) == 0 {
				return nil, errors.New("no metadata in a context without an end")
			}
			kept <- []context.Context{ctx, child, free}
			return nil, nil
		}})
		conn := l.dial(t)
		for range 100 {
			if o := call(t, conn, "Unary", nil); o.status.Code() != codes.OK {
				t.Fatal(o)
			}
			got := receive(t, "the contexts", kept)
			for _, ctx := range got[:2] {
				receive(t, "the end of the context", ctx.Done())
				if ctx.Err() != context.Canceled || context.Cause(ctx) != context.Canceled {
					t.Fatalf("%v, %v", ctx.Err(), context.Cause(ctx))
				}
			}
			if got[2].Err() != nil {
				t.Fatal(got[2].Err())
			}
		}
	})
}

// TestStreamsThatEndAsTheyBegin: calls whose time is up, and connections that end, before the server is through with a call's headers. It
// is for the race detector.
func TestStreamsThatEndAsTheyBegin(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		for range 5 {
			w := l.wire(t)
			var ids []uint32
			for range 1000 {
				ids = append(ids, w.call("Bidi", "grpc-timeout", "1n"))
			}
			w.ended(ids...)
			for range 10 {
				w.call("Bidi")
			}
			_ = w.conn.Close()
		}
		if o := call(t, l.dial(t), "Unary", []byte("x")); o.status.Code() != codes.OK {
			t.Error(o)
		}
	})
}
