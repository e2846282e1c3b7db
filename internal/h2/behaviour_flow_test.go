package h2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// TestTinyWindows sends large messages through windows of 64 KiB.
func TestTinyWindows(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{maxRecv: 8 << 20})
		conn := l.dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				if o := call(t, conn, "Unary", pattern(i<<20)); !bytes.Equal(o.body, pattern(i<<20)) {
					t.Errorf("%d MiB: %d bytes, %v", i, len(o.body), o)
				}
			})
		}
		within(t, "all calls", wg.Wait)
	})
}

// TestWindowOfOneByte grants the answer byte by byte.
func TestWindowOfOneByte(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		w := l.plug(t)
		w.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		w.listen()
		id := w.call("Unary")
		w.message(id, pattern(200), true)
		for n := 1; n < 205; n++ {
			w.wait("the next byte", func() bool { return w.reply(id).data.Len() == n })
			if n%50 == 0 {
				w.settle()
			}
			w.grant(id, 1)
		}
		w.ended(id)
		w.mu.Lock()
		defer w.mu.Unlock()
		if r := w.reply(id); !bytes.Equal(r.data.Bytes(), enclosed(pattern(200))) || r.heads[1] != "grpc-status=0" {
			t.Errorf("%v", r)
		}
	})
}

// TestWindowsThatChange: settings and grants in an order that makes windows negative.
func TestWindowsThatChange(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		w := l.plug(t)
		window := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n} }
		w.hello(window(1000))
		w.listen()
		one, two := w.call("Unary"), w.call("Unary")
		w.message(one, pattern(5000), true)
		exactly := func(id uint32, n int) {
			t.Helper()
			w.wait(fmt.Sprintf("%d bytes", n), func() bool { return w.reply(id).data.Len() >= n })
			w.settle()
			if got := w.received(id); got != n {
				t.Fatalf("%d bytes on stream %d, want %d", got, id, n)
			}
		}
		exactly(one, 1000)
		w.set(window(0)) // -1000
		w.grant(one, 1000)
		exactly(one, 1000)
		w.message(two, pattern(10), true)
		exactly(two, 0)
		// A call, so that the pings of settle stay allowed.
		w.grant(one, 500)
		exactly(one, 1500)
		w.set(window(300))
		exactly(one, 1800)
		exactly(two, 15)
		w.ended(two)
		w.set(window(1<<31-1), window(300), window(400))
		exactly(one, 1900)
		w.grant(one, 1<<20)
		w.ended(one)
		exactly(one, 5005)
	})
}

// TestConnectionWindow: all streams share one window.
func TestConnectionWindow(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		w := l.plug(t)
		w.hello(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		w.listen()
		var ids []uint32
		for range 4 {
			id := w.call("Unary")
			w.message(id, pattern(40_000), true)
			ids = append(ids, id)
		}
		total := func() (n int) {
			for _, id := range ids {
				n += w.reply(id).data.Len()
			}
			return n
		}
		w.wait("a window full", func() bool { return total() >= 65535 })
		for n := 65535; n < 4*40_005; n += 10_000 {
			w.settleWithCall()
			w.mu.Lock()
			if got := total(); got != n {
				t.Errorf("%d bytes of %d", got, n)
			}
			w.mu.Unlock()
			w.grant(0, 10_000)
			next := min(n+10_000, 4*40_005)
			w.wait("the next bytes", func() bool { return total() >= next })
		}
		w.ended(ids...)
	})
}

// settleWithCall is settle beside a call of no bytes, so that any number of pings is allowed.
func (w *wire) settleWithCall() {
	w.t.Helper()
	id := w.call("Missing")
	w.data(id, nil, true)
	w.ended(id)
	w.settle()
}

// TestWindowsOfUploads: a client that heeds the server's windows can send any message that is allowed, although the handler
// does not look at it, and gets them back from calls that end in each way.
func TestWindowsOfUploads(t *testing.T) {
	size, rounds := 300_000, 12
	if *long {
		rounds = 1000
	}
	ways := map[string]func(w *wire, id uint32){
		"answered":        func(w *wire, id uint32) { w.upload(id, enclosed(pattern(size)), true); w.ended(id) },
		"with many small": func(w *wire, id uint32) { w.uploadSmall(id, size); w.ended(id) },
		"reset in the middle of a message": func(w *wire, id uint32) {
			w.upload(id, enclosed(pattern(size))[:size/2], false)
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		},
		"after the server's end": func(w *wire, id uint32) {
			w.ended(id)
			w.upload(id, pattern(40_000), true)
		},
		"padded": func(w *wire, id uint32) {
			for range 100 {
				w.waitWindow(id, 201)
				w.send(func(f *http2.Framer) error { return f.WriteDataPadded(id, false, nil, make([]byte, 200)) })
			}
			w.data(id, enclosed(nil), true)
			w.ended(id)
		},
		"never taken": func(w *wire, id uint32) {
			w.upload(id, enclosed(pattern(30_000)), false)
			w.send(func(f *http2.Framer) error { return f.WriteRSTStream(id, http2.ErrCodeCancel) })
		},
	}
	both(t, func(t *testing.T, k kind) {
		for name, use := range ways {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				l := start(t, k, options{maxStreams: 50, stream: func(s grpc.ServerStream) error {
					switch name {
					case "after the server's end":
						return nil
					case "never taken":
						<-s.Context().Done()
						return nil
					case "with many small":
						for {
							if _, err := hear(s); err != nil {
								return nil
							}
						}
					}
					_, err := hear(s)
					return err
				}})
				w := l.wide(t)
				for range rounds {
					use(w, w.call("Client"))
				}
				id := w.call("Unary")
				w.upload(id, enclosed([]byte("alive")), true)
				w.ended(id)
				w.mu.Lock()
				defer w.mu.Unlock()
				if got := w.reply(id).String(); got != `:status=200 content-type=application/grpc | "alive" | grpc-status=0` {
					t.Errorf("afterwards: %s", got)
				}
			})
		}
	})
}

// waitWindow waits until n bytes may be sent, and spends them. The windows are those that the server has told.
func (w *wire) waitWindow(id uint32, n int) bool {
	return w.wait("a window", func() bool { return w.spend(id, int64(n)) })
}

// mayWrite spends n bytes if they may be sent now.
func (w *wire) mayWrite(id uint32, n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.spend(id, int64(n))
}

// spend is called with mu held.
func (w *wire) spend(id uint32, n int64) bool {
	initial, ok := w.settings[http2.SettingInitialWindowSize]
	if !ok {
		initial = 65535
	}
	left := min(65535+w.updates[0], int64(initial)+w.updates[id])
	if r := w.streams[id]; r != nil && r.ended {
		left = 65535 + w.updates[0]
	}
	if left < n {
		return false
	}
	w.updates[0] -= n
	w.updates[id] -= n
	return true
}

// upload sends bytes as the server's windows allow.
func (w *wire) upload(id uint32, b []byte, end bool) {
	w.t.Helper()
	for len(b) > 0 {
		n := min(len(b), 8000)
		if !w.waitWindow(id, n) {
			w.t.Fatalf("the connection is over: %s", w.verdict())
		}
		w.data(id, b[:n], end && n == len(b))
		b = b[n:]
	}
}

// uploadSmall sends a stream of small messages.
func (w *wire) uploadSmall(id uint32, size int) {
	w.t.Helper()
	for n := 0; n < size; n += 1000 {
		w.upload(id, enclosed(pattern(1000)), false)
	}
	w.data(id, nil, true)
}

// pipes is a listener whose connections have no buffer at all: what the server has written, the client has read.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

func (p *pipes) dial(t testing.TB) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	select {
	case p.conns <- server:
	case <-time.After(patience):
		t.Fatal("nobody accepts")
	}
	return client
}

// goroutine returns the number of the one that calls it.
func goroutine() int {
	b := make([]byte, 64)
	n, _ := strconv.Atoi(strings.Fields(string(b[:runtime.Stack(b, false)]))[1])
	return n
}

// parked tells whether a goroutine waits for something, or is no more.
func parked(id int) bool {
	b := make([]byte, 1<<20)
	n := runtime.Stack(b, true)
	for n == len(b) {
		b = make([]byte, 2*len(b))
		n = runtime.Stack(b, true)
	}
	_, after, found := strings.Cut(string(b[:n]), fmt.Sprintf("goroutine %d [", id))
	return !found || !strings.HasPrefix(after, "run") // running, runnable
}

// TestSmallBesideLarge: ten large answers wait for a client that reads slowly; a small message does not wait for them.
func TestSmallBesideLarge(t *testing.T) {
	const large, bound = 10 << 20, 1 << 20
	both(t, func(t *testing.T, k kind) {
		release, entered := make(chan struct{}), make(chan int, 1)
		lis := newPipes()
		l := startOn(t, k, lis, options{
			unary: func(context.Context, []byte) ([]byte, error) { return make([]byte, large), nil },
			stream: func(s grpc.ServerStream) error {
				entered <- goroutine()
				<-release
				if err := s.SendMsg(&message{[]byte("small")}); err != nil {
					return err
				}
				<-s.Context().Done()
				return nil
			},
		})
		w := newWire(t, lis.dial(t))
		frames := make(chan *http2.FrameHeader) // handed over one at a time: nothing is read ahead
		go func() {
			defer close(frames)
			for {
				f, err := w.fr.ReadFrame()
				if err != nil {
					return
				}
				h := f.Header()
				frames <- &h
			}
		}()
		sent := make(chan struct{})
		var small uint32
		go func() {
			defer close(sent)
			w.widen()
			w.send(func(f *http2.Framer) error { return f.WriteSettingsAck() })
			small = w.call("Bidi")
			for range 10 {
				w.message(w.call("Unary"), nil, true)
			}
		}()
		began := map[uint32]bool{}
		for len(began) < 10 {
			if h := receive(t, "a frame", frames); h == nil {
				t.Fatal("the connection is over")
			} else if h.Type == http2.FrameData {
				began[h.StreamID] = true
			}
		}
		receive(t, "the end of sending", sent)
		id := receive(t, "the small stream's handler", entered)
		close(release)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !parked(id) {
			<-tick.C
		}
		bytes := 0
		for {
			h := receive(t, "a frame", frames)
			if h == nil {
				t.Fatal("the connection is over")
			}
			if h.Type != http2.FrameData {
				continue
			}
			if h.StreamID == small {
				break
			}
			if bytes += int(h.Length); bytes > bound {
				t.Fatalf("%d bytes came before a small message", bytes)
			}
		}
		_ = w.conn.Close()
		for range frames { // until its goroutine has seen the end
		}
		within(t, "Stop", l.Stop)
	})
}

// TestManyCallsKeepTheirWindows makes so many calls and messages on one connection that a window which loses a byte at each is
// used up.
func TestManyCallsKeepTheirWindows(t *testing.T) {
	calls, size, rounds := 3_000, 100, 12
	if *long {
		calls, rounds = 100_000, 512
	}
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{unary: func(_ context.Context, in []byte) ([]byte, error) {
			if len(in) == 13 {
				return nil, errors.New("unlucky")
			}
			return in, nil
		}})
		conn := l.dial(t, grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10))
		var wg sync.WaitGroup
		for worker := range 20 {
			wg.Go(func() {
				for i := range calls / 20 {
					n := size + (worker+i)%50
					if i%100 == 0 {
						n = 13
					}
					o := call(t, conn, "Unary", pattern(n))
					if ok := o.status.Code() == codes.OK; ok != (n != 13) || ok && len(o.body) != n {
						t.Errorf("%v", o)
						return
					}
				}
			})
		}
		within(t, "the calls", wg.Wait)
		s := open(context.Background(), t, conn, "Bidi")
		for range rounds {
			say(t, s, pattern(1<<20))
			if out, err := hear(s); err != nil || len(out) != 1<<20 {
				t.Fatalf("%d bytes, %v", len(out), err)
			}
		}
	})
}
