package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestStreamsOfMessages echoes messages of many sizes, one by one and all at once, with the end of the client's side after them.
func TestStreamsOfMessages(t *testing.T) {
	sizes := []int{0, 1, 5, 16379, 16384, 0, 65536, 1 << 20, 2, 0}
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		conn := l.dial(t)
		expect := func(s grpc.ClientStream, size int) {
			t.Helper()
			if out, err := hear(s); err != nil || !bytes.Equal(out, pattern(size)) {
				t.Errorf("%d bytes came back as %d, %v", size, len(out), err)
			}
		}
		end := func(s grpc.ClientStream) {
			t.Helper()
			if err := s.CloseSend(); err != nil {
				t.Error(err)
			}
			if out, err := hear(s); err != io.EOF {
				t.Errorf("after the end: %q, %v", out, err)
			}
		}
		one := open(deadline(t), t, conn, "Bidi")
		for _, size := range sizes {
			say(t, one, pattern(size))
			expect(one, size)
		}
		end(one)

		all := open(deadline(t), t, conn, "Bidi")
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, size := range sizes {
				if err := all.SendMsg(&message{pattern(size)}); err != nil {
					t.Error(err)
				}
			}
			_ = all.CloseSend()
		})
		for _, size := range sizes {
			expect(all, size)
		}
		wg.Wait()
		if out, err := hear(all); err != io.EOF {
			t.Errorf("after the end: %q, %v", out, err)
		}

		none := open(deadline(t), t, conn, "Bidi")
		end(none)
	})
}

// TestStreamsInOneDirection: a client that only sends and a server that only sends.
func TestStreamsInOneDirection(t *testing.T) {
	const messages = 2000
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{stream: func(s grpc.ServerStream) error {
			if name, _ := grpc.Method(s.Context()); name == "/lab.Lab/Server" {
				in, err := hear(s)
				if err != nil || string(in) != "go" {
					return fmt.Errorf("%q, %w", in, err)
				}
				if _, err := hear(s); err != io.EOF {
					return fmt.Errorf("after the only request: %w", err)
				}
				for i := range messages {
					if err := s.SendMsg(&message{fmt.Append(nil, i)}); err != nil {
						return err
					}
				}
				return status.Error(codes.OutOfRange, "that was all")
			}
			n := 0
			for {
				in, err := hear(s)
				if err == io.EOF {
					return s.SendMsg(&message{fmt.Append(nil, "got ", n)})
				}
				if err != nil || string(in) != fmt.Sprint(n) {
					return fmt.Errorf("%q, %w", in, err)
				}
				n++
			}
		}})
		conn := l.dial(t)
		down := open(deadline(t), t, conn, "Server")
		say(t, down, []byte("go"))
		_ = down.CloseSend()
		for i := range messages {
			if in, err := hear(down); err != nil || string(in) != fmt.Sprint(i) {
				t.Fatalf("%d: %q, %v", i, in, err)
			}
		}
		if _, err := hear(down); status.Code(err) != codes.OutOfRange {
			t.Errorf("the end is %v", err)
		}
		up := open(deadline(t), t, conn, "Client")
		for i := range messages {
			say(t, up, fmt.Append(nil, i))
		}
		_ = up.CloseSend()
		if out, err := hear(up); err != nil || string(out) != fmt.Sprint("got ", messages) {
			t.Errorf("%q, %v", out, err)
		}
		if _, err := hear(up); err != io.EOF {
			t.Errorf("the end is %v", err)
		}
	})
}

// TestServersThatEndEarly ends a stream while the client still sends: it is told the status, and its Send ends.
func TestServersThatEndEarly(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{stream: func(s grpc.ServerStream) error {
			in, err := hear(s)
			if err != nil {
				return err
			}
			s.SetTrailer(metadata.Pairs("left", "early"))
			if string(in) == "fine" {
				return nil
			}
			return status.Error(codes.Aborted, string(in))
		}})
		conn := l.dial(t)
		for range 20 {
			for say1, want := range map[string]string{"fine": "EOF", "enough": "rpc error: code = Aborted desc = enough"} {
				s := open(deadline(t), t, conn, "Bidi")
				say(t, s, []byte(say1))
				for {
					if err := s.SendMsg(&message{pattern(32 << 10)}); err == io.EOF {
						break
					} else if err != nil {
						t.Fatalf("SendMsg: %v", err)
					}
				}
				if _, err := hear(s); fmt.Sprint(err) != want {
					t.Errorf("%v, want %s", err, want)
				}
				if got := s.Trailer()["left"]; len(got) != 1 {
					t.Errorf("trailer %v", s.Trailer())
				}
			}
		}
		if o := call(t, conn, "Unary", []byte("x")); o.status.Code() != codes.OK {
			t.Errorf("the connection serves no more: %v", o)
		}
	})
}

// errorsOf are what a handler sees on its stream once it is over.
type errorsOf struct{ recv, send, context error }

// TestClientsThatCancel: the handler's context and those made of it are done, and it can neither receive nor send.
func TestClientsThatCancel(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		entered, saw := make(chan struct{}, 1), make(chan errorsOf, 1)
		l := start(t, k, options{
			stream: func(s grpc.ServerStream) error {
				child, stop := context.WithCancel(context.WithValue(s.Context(), key{}, 1))
				defer stop()
				after := make(chan struct{})
				context.AfterFunc(s.Context(), func() { close(after) })
				entered <- struct{}{}
				e := errorsOf{}
				_, e.recv = hear(s)
				<-child.Done()
				<-after
				<-s.Context().Done()
				for e.send == nil {
					e.send = s.SendMsg(&message{pattern(10_000)})
				}
				e.context = child.Err()
				if !errors.Is(context.Cause(child), context.Canceled) {
					e.context = context.Cause(child)
				}
				saw <- e
				return errors.New("nobody hears it")
			},
			unary: func(ctx context.Context, _ []byte) ([]byte, error) {
				child, stop := context.WithCancel(ctx)
				defer stop()
				entered <- struct{}{}
				<-child.Done()
				saw <- errorsOf{context: ctx.Err()}
				return nil, nil
			},
		})
		conn := l.dial(t)
		for _, how := range []string{"Bidi", "Unary"} {
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			if how == "Bidi" {
				s := open(ctx, t, conn, how)
				go func() { _, err := hear(s); ended <- err }()
			} else {
				go func() { ended <- callIn(ctx, conn, "/lab.Lab/Unary", []byte("x")).status.Err() }()
			}
			receive(t, "the handler", entered)
			cancel()
			if err := receive(t, "the client's end", ended); status.Code(err) != codes.Canceled {
				t.Errorf("%s: the client sees %v", how, err)
			}
			e := receive(t, "the handler's end", saw)
			if e.context != context.Canceled {
				t.Errorf("%s: the context's error is %v", how, e.context)
			}
			if how == "Bidi" && (status.Code(e.recv) != codes.Canceled || status.Code(e.send) != codes.Canceled ||
				status.Convert(e.recv).Message() != "context canceled" || status.Convert(e.send).Message() != "context canceled") {
				t.Errorf("%s: the handler sees %v and %v", how, e.recv, e.send)
			}
		}
	})
}

type key struct{}

// TestHandlersThatOutliveTheirStream keep the stream and its context beyond the end, which harms nobody.
func TestHandlersThatOutliveTheirStream(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		kept, ctxs := make(chan grpc.ServerStream, 1), make(chan context.Context, 1)
		l := start(t, k, options{
			stream: func(s grpc.ServerStream) error { kept <- s; return nil },
			unary:  func(ctx context.Context, in []byte) ([]byte, error) { ctxs <- ctx; return in, nil },
		})
		conn := l.dial(t)
		for i := range 50 {
			s := open(deadline(t), t, conn, "Bidi")
			if _, err := hear(s); err != io.EOF {
				t.Fatal(err)
			}
			old := receive(t, "the stream", kept)
			ctx := metadata.AppendToOutgoingContext(deadline(t), "number", fmt.Sprint(i))
			if o := callIn(ctx, conn, "/lab.Lab/Unary", []byte("x")); o.status.Code() != codes.OK {
				t.Fatal(o)
			}
			oldCtx := receive(t, "the context", ctxs)
			// Others pass meanwhile, which take over whatever is used again.
			next := metadata.AppendToOutgoingContext(deadline(t), "number", "next")
			if o := callIn(next, conn, "/lab.Lab/Unary", []byte("y")); o.status.Code() != codes.OK {
				t.Fatal(o)
			}
			receive(t, "the context", ctxs)

			receive(t, "the end of the old context", oldCtx.Done())
			if oldCtx.Err() != context.Canceled {
				t.Errorf("the old context's error is %v", oldCtx.Err())
			}
			if md, _ := metadata.FromIncomingContext(oldCtx); fmt.Sprint(md["number"]) != fmt.Sprint([]string{fmt.Sprint(i)}) {
				t.Errorf("the old context has the metadata %v", md)
			}
			if err := grpc.SetHeader(oldCtx, metadata.Pairs("late", "1")); err == nil {
				t.Error("SetHeader after the end succeeds")
			}
			if err := grpc.SetTrailer(oldCtx, metadata.Pairs("late", "1")); err == nil {
				t.Error("SetTrailer after the end succeeds")
			}
			if err := grpc.SendHeader(oldCtx, nil); err == nil {
				t.Error("SendHeader after the end succeeds")
			}
			if err := old.SendMsg(&message{[]byte("late")}); err == nil {
				t.Error("SendMsg after the end succeeds")
			}
			if _, err := hear(old); err == nil {
				t.Error("RecvMsg after the end succeeds")
			}
			receive(t, "the end of the old stream's context", old.Context().Done())
		}
	})
}

// TestSendersAndReceiversAtOnce runs both sides of both ends of many streams at once, beside unary calls.
func TestSendersAndReceiversAtOnce(t *testing.T) {
	const streams, messages = 15, 100
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{stream: func(s grpc.ServerStream) error {
			sent := make(chan error, 1)
			go func() {
				for i := range messages {
					if err := s.SendMsg(&message{pattern(i * 13)}); err != nil {
						sent <- err
						return
					}
				}
				sent <- nil
			}()
			for i := 0; ; i++ {
				in, err := hear(s)
				if err == io.EOF && i == messages {
					return <-sent
				}
				if err != nil || !bytes.Equal(in, pattern(i*17)) {
					return fmt.Errorf("message %d of %d bytes, %w", i, len(in), err)
				}
			}
		}})
		conn := l.dial(t)
		var wg sync.WaitGroup
		for range streams {
			s := open(deadline(t), t, conn, "Bidi")
			wg.Go(func() {
				for i := range messages {
					if err := s.SendMsg(&message{pattern(i * 17)}); err != nil {
						t.Errorf("SendMsg: %v", err)
						return
					}
				}
				_ = s.CloseSend()
			})
			wg.Go(func() {
				for i := range messages {
					if in, err := hear(s); err != nil || !bytes.Equal(in, pattern(i*13)) {
						t.Errorf("message %d of %d bytes, %v", i, len(in), err)
						return
					}
				}
				if _, err := hear(s); err != io.EOF {
					t.Errorf("the end is %v", err)
				}
			})
			wg.Go(func() {
				for i := range messages / 4 {
					if o := call(t, conn, "Unary", pattern(i*31)); !bytes.Equal(o.body, pattern(i*31)) {
						t.Errorf("unary: %v", o)
						return
					}
				}
			})
		}
		within(t, "all of it", wg.Wait)
	})
}
