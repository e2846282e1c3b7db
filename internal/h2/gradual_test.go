package h2_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/h2"
)

// madeOf is an answer that is made of pieces.
type madeOf struct {
	length int
	list   [][]byte
	err    error // what making them ends with

	made  atomic.Int64 // bytes that send has taken
	freed atomic.Int64 // buffers that came back
	given atomic.Int64 // buffers that send was given
	done  chan error   // what Make returned
}

// inPieces is a message in pieces of n bytes.
func inPieces(b []byte, n int) *madeOf {
	p := &madeOf{length: len(b), done: make(chan error, 1)}
	for len(b) > 0 {
		k := min(n, len(b))
		p.list = append(p.list, b[:k])
		b = b[k:]
	}
	return p
}

func (p *madeOf) Pending() int { return p.length }

func (p *madeOf) Make(send func(mem.BufferSlice) error) error {
	err := p.make(send)
	p.done <- err
	return err
}

func (p *madeOf) make(send func(mem.BufferSlice) error) error {
	for _, b := range p.list {
		p.given.Add(1)
		buf := bytes.Clone(b)
		if err := send(mem.BufferSlice{mem.NewBuffer(&buf, p)}); err != nil {
			return err
		}
		p.made.Add(int64(len(b)))
	}
	return p.err
}

// Get and Put are a mem.BufferPool that counts. What comes back is overwritten.
func (p *madeOf) Get(n int) *[]byte { b := make([]byte, n); return &b }

func (p *madeOf) Put(b *[]byte) {
	clear(*b)
	p.freed.Add(1)
}

// answering is a lab whose unary calls are answered by what a function returns.
func answering(t *testing.T, f func(ctx context.Context) any) *lab {
	return start(t, kind{"h2", ours}, options{unaryInterceptor: answer(f)})
}

// answer answers each call by what a function returns.
func answer(f func(ctx context.Context) any) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		return f(ctx), nil
	}
}

// whole checks that all buffers come back: the last ones are freed when the client has them already.
func (p *madeOf) whole(t *testing.T) {
	t.Helper()
	eventually(t, "buffers do not come back", func() bool { return p.given.Load() == p.freed.Load() })
}

func TestAGradualAnswerIsOneMessage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ bytes, piece int }{
		"of one piece":            {3 << 20, 3 << 20},
		"of pieces of frames":     {3 << 20, 16 << 10},
		"of pieces above a queue": {5 << 20, 2 << 20},
		"of small ones":           {200_000, 7},
		"of one byte":             {1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := pattern(c.bytes)
			p := inPieces(want, c.piece)
			conn := answering(t, func(context.Context) any { return p }).dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
			if o := call(t, conn, "Unary", nil); o.status.Code() != codes.OK || !bytes.Equal(o.body, want) {
				t.Errorf("%d bytes, %v", len(o.body), o)
			}
			if err := receive(t, "the end of it", p.done); err != nil {
				t.Error(err)
			}
			if c.piece >= 16<<10 { // smaller ones are not pooled
				p.whole(t)
			}
		})
	}
}

// TestAGradualAnswerIsMadeAsItIsRead: without a window no more is made than may wait.
func TestAGradualAnswerIsMadeAsItIsRead(t *testing.T) {
	t.Parallel()
	const piece, most = 64 << 10, 512<<10 + 64<<10
	want := pattern(4 << 20)
	p := inPieces(want, piece)
	l := answering(t, func(context.Context) any { return p })
	w := l.plug(t)
	w.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	w.grant(0, 8<<20)
	w.listen()
	id := w.call("Unary")
	w.message(id, nil, true)
	for sent := 0; sent < len(want)+5; {
		w.settle()
		if ahead := int(p.made.Load()) - sent; ahead > most {
			t.Fatalf("%d bytes are made beyond the %d that the client lets through", ahead, sent)
		}
		n := min(300_000, len(want)+5-sent)
		w.grant(id, uint32(n))
		sent += n
		w.wait("what the window allows", func() bool { return w.reply(id).data.Len() >= sent })
	}
	w.ended(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.reply(id); !bytes.Equal(r.data.Bytes(), enclosed(want)) || r.heads[1] != "grpc-status=0" {
		t.Errorf("%d bytes, %v", r.data.Len(), r.heads)
	}
}

func TestAGradualAnswerThatIsNotWhatItWasToBeIsReset(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*madeOf){
		"too short":                        func(p *madeOf) { p.length++ },
		"too long":                         func(p *madeOf) { p.length-- },
		"an error at the end":              func(p *madeOf) { p.err = errors.New("no") },
		"an error before anything is made": func(p *madeOf) { p.list, p.err = nil, errors.New("no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inPieces(pattern(1<<20), 100_000)
			change(p)
			l := answering(t, func(context.Context) any { return p })
			w := l.wide(t)
			id := w.call("Unary")
			w.message(id, nil, true)
			w.ended(id)
			receive(t, "the end of it", p.done)
			w.mu.Lock()
			reset := w.reply(id).reset
			w.mu.Unlock()
			if reset != "INTERNAL_ERROR" {
				t.Errorf("it ended with %q", reset)
			}
			w.settle()
			p.whole(t)
			if o := call(t, l.dial(t), "Unary", nil); o.status.Code() != codes.Internal {
				t.Errorf("a stock client is told %v", o)
			}
		})
	}
}

// TestAGradualAnswerEndsWithItsCall: whoever makes it is told, however the call ends.
func TestAGradualAnswerEndsWithItsCall(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(l *lab, w *wire, id uint32){
		"by a reset": func(_ *lab, w *wire, id uint32) {
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		},
		"by the end of the connection": func(_ *lab, w *wire, _ uint32) { _ = w.conn.Close() },
		"by the end of the server":     func(l *lab, _ *wire, _ uint32) { l.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := inPieces(pattern(4<<20), 64<<10)
			l := answering(t, func(context.Context) any { return p })
			w := l.wire(t) // its windows are 64 KiB
			id := w.call("Unary")
			w.message(id, nil, true)
			w.wait("the first window", func() bool { return w.reply(id).data.Len() == 65535 })
			end(l, w, id)
			if err := receive(t, "the end of it", p.done); err == nil {
				t.Error("all of it was made")
			}
		})
	}
	t.Run("by its deadline, before it began", func(t *testing.T) {
		t.Parallel()
		called, over := make(chan *madeOf, 64), make(chan struct{})
		release := sync.OnceFunc(func() { close(over) })
		defer release()
		l := answering(t, func(context.Context) any {
			p := inPieces(pattern(1<<20), 64<<10)
			called <- p
			<-over // the context ends before the call does
			return p
		})
		w := l.wide(t)
		var p *madeOf
		for ms := 1; p == nil; ms *= 2 { // it may be up before the handler is called
			id := w.call("Unary", "grpc-timeout", strconv.Itoa(ms)+"m")
			w.message(id, nil, true)
			w.ended(id)
			select {
			case p = <-called:
			default:
			}
		}
		release()
		if err := receive(t, "the end of it", p.done); err == nil || p.made.Load() != 0 {
			t.Errorf("%d bytes were made, %v", p.made.Load(), err)
		}
	})
}

func TestWhichCallsMayBeAnsweredGradually(t *testing.T) {
	t.Parallel()
	answers := make(chan bool, 1)
	o := options{
		unaryInterceptor: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			answers <- h2.SendsGradually(ctx)
			return h(ctx, req)
		},
		stream: func(s grpc.ServerStream) error { answers <- h2.SendsGradually(s.Context()); return nil },
	}
	for _, k := range kinds {
		conn := start(t, k, o).dial(t)
		for _, c := range []struct {
			what string
			may  bool
			do   func() outcome
		}{
			{"a unary call", k.name == "h2", func() outcome { return call(t, conn, "Unary", nil) }},
			{"one that is compressed", false, func() outcome { return call(t, conn, "Unary", pattern(10), grpc.UseCompressor(gzip.Name)) }},
			{"a stream", false, func() outcome { return call(t, conn, "Client", nil) }},
		} {
			c.do()
			if got := receive(t, c.what, answers); got != c.may {
				t.Errorf("%s of %s: %v", c.what, k.name, got)
			}
		}
	}
}

// TestAClientThatTakesNothing: whoever makes an answer for it waits as long as was said, and the client is told.
func TestAClientThatTakesNothing(t *testing.T) {
	t.Parallel()
	const patience = 10 * time.Millisecond
	ends := make(chan error, 1)
	for name, c := range map[string]struct {
		method string
		o      options
	}{
		"a gradual answer": {"Unary", options{unaryInterceptor: func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			h2.BoundWaits(ctx, patience)
			p := inPieces(pattern(4<<20), 64<<10)
			p.done = ends
			return p, nil
		}}},
		"a stream": {"Server", options{stream: func(s grpc.ServerStream) (err error) {
			h2.BoundWaits(s.Context(), patience)
			for err == nil {
				err = s.SendMsg(&message{data: pattern(64 << 10)})
			}
			ends <- err
			return err
		}}},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they share ends
			l := start(t, kind{"h2", ours}, c.o)
			w := l.wire(t) // its windows are 64 KiB, and it gives no more
			id := w.call(c.method)
			w.message(id, nil, true)
			if err := receive(t, "the end of it", ends); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("the handler is told %v", err)
			}
			w.ended(id)
			w.mu.Lock()
			defer w.mu.Unlock()
			if r := w.reply(id); r.reset != "ENHANCE_YOUR_CALM" || r.data.Len() != 65535 {
				t.Errorf("%d bytes, and then %q", r.data.Len(), r.reset)
			}
		})
	}
}

// TestAClientThatTakesALittle, again and again, is waited for, however long the whole takes.
func TestAClientThatTakesALittle(t *testing.T) {
	t.Parallel()
	const patience = time.Second
	ends := make(chan error, 1)
	l := start(t, kind{"h2", ours}, options{stream: func(s grpc.ServerStream) (err error) {
		h2.BoundWaits(s.Context(), patience)
		for err == nil {
			err = s.SendMsg(&message{data: pattern(16 << 20)})
		}
		ends <- err
		return err
	}})
	w := l.wire(t)
	id := w.call("Server")
	w.message(id, nil, true)
	taken := 65535 // its windows
	cut := false
	for begin := time.Now(); time.Since(begin) < 5*patience/2 && !cut; taken++ {
		w.grant(0, 1)
		w.grant(id, 1)
		w.wait("one byte more", func() bool {
			cut = w.reply(id).reset != ""
			return cut || w.reply(id).data.Len() > taken
		})
	}
	if cut {
		t.Errorf("it was cut off with %d bytes taken", taken)
	}
	if err := receive(t, "the end of it", ends); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("when it takes nothing more the handler is told %v", err)
	}
}
