package h2_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// TestSilentClientsAreCut: one that answers no pings, whether it reads or not, and whether it has calls or not.
func TestSilentClientsAreCut(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		entered, ended := make(chan struct{}, 2), make(chan error, 2)
		l := start(t, k, options{pingEvery: time.Second, pingPatience: time.Second,
			unary: func(ctx context.Context, _ []byte) ([]byte, error) {
				<-ctx.Done()
				ended <- ctx.Err()
				return nil, ctx.Err()
			},
			stream: func(s grpc.ServerStream) error {
				entered <- struct{}{}
				for {
					if err := s.SendMsg(&message{pattern(100_000)}); err != nil {
						<-s.Context().Done()
						ended <- s.Context().Err()
						return err
					}
				}
			}})
		idle := l.plug(t)
		idle.noPong = true
		idle.hello()
		idle.listen()

		waiting := l.plug(t)
		waiting.noPong = true
		waiting.hello()
		waiting.listen()
		waiting.message(waiting.call("Unary"), []byte("x"), true)

		deaf := l.plug(t)
		deaf.widen() // and never listens, so that the server's writes hang
		deaf.data(deaf.call("Server"), enclosed(nil), true)
		receive(t, "the handler", entered)

		idle.closed()
		waiting.closed()
		for range 2 {
			if err := receive(t, "the end of a handler", ended); err != context.Canceled {
				t.Errorf("a handler's context ends with %v", err)
			}
		}
		for name, w := range map[string]*wire{"idle": idle, "waiting": waiting} {
			w.mu.Lock()
			if len(w.pinged) == 0 {
				t.Errorf("the %s client was not asked", name)
			}
			w.mu.Unlock()
		}
	})
}

// TestClientsThatAnswerStay: pings come as long as there is nothing else, and an answer is all that they want.
func TestClientsThatAnswerStay(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{pingEvery: time.Second, pingPatience: time.Hour})
		w := l.wire(t)
		w.wait("two pings", func() bool { return len(w.pinged) >= 2 })
		id := w.call("Unary")
		w.message(id, []byte("x"), true)
		w.ended(id)
		if got := w.verdict(); got != `1: :status=200 content-type=application/grpc | "x" | grpc-status=0` {
			t.Error(got)
		}
	})
}

// TestShortIntervalsAreASecond: no server pings more often, whatever it is told. What is measured begins before the connection does,
// so that it can only be longer.
func TestShortIntervalsAreASecond(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{pingEvery: 1, pingPatience: time.Hour})
		before := time.Now()
		w := l.wire(t)
		w.wait("two pings", func() bool { return len(w.pinged) >= 2 })
		if took := time.Since(before); took < 1500*time.Millisecond {
			t.Errorf("two pings within %v", took)
		}
	})
}

// TestClientsThatPingTooMuch: which ping is the one too many.
func TestClientsThatPingTooMuch(t *testing.T) {
	type act byte
	const (
		ping  act = 'p' // and wait for the answer or the end
		ack   act = 'a' // of a ping that nobody sent
		unary act = 'u' // a call that is answered
		stand act = 's' // a stream that stays open, with one message each way
		more  act = 'm' // another message on it
	)
	for _, c := range []struct {
		name string
		min  time.Duration
		acts string
		cut  bool
	}{
		{"three pings are none too many", time.Hour, "ppp", false},
		{"four are", time.Hour, "pppp", true},
		{"without a call, a short interval helps nothing", time.Nanosecond, "pppp", true},
		{"no interval is that of five minutes", 0, "pppp", true},
		{"with a call, pings may come at the interval", time.Nanosecond, "spppppppppp", false},
		{"with a call, but more often than the interval", time.Hour, "spppp", true},
		{"the first after an answer is free", time.Hour, "sppp", false},
		{"an answer forgives all before it", time.Hour, "pppupppupppuppp", false},
		{"an answer forgives all before it but not what follows", time.Hour, "pppupppp", true},
		{"a message of a stream forgives too", time.Hour, "spppmpppmppp", false},
		{"acknowledgements are no pings", time.Hour, "aaaaaaaappp", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				l := start(t, k, options{minPing: c.min})
				w := l.wire(t)
				var standing uint32
				said := 0
				for i, a := range c.acts {
					switch act(a) {
					case ping:
						mark := [8]byte{'p', byte(i)}
						w.send(func(f *http2.Framer) error { return f.WritePing(false, mark) })
						w.wait("the answer to a ping", func() bool { return w.pings[mark] })
					case ack:
						w.pong([8]byte{byte(i)})
					case unary:
						id := w.call("Unary")
						w.message(id, []byte("x"), true)
						w.ended(id)
					case stand, more:
						if act(a) == stand {
							standing = w.call("Bidi")
						}
						w.message(standing, []byte("x"), false)
						said += 6
						w.wait("an echo", func() bool { return w.reply(standing).data.Len() == said })
					}
				}
				if !c.cut {
					id := w.call("Unary")
					w.message(id, []byte("x"), true)
					w.ended(id)
					w.mu.Lock()
					defer w.mu.Unlock()
					if !w.reply(id).ended || len(w.goaways) > 0 {
						t.Errorf("cut with %v", w.debugs)
					}
					return
				}
				w.closed()
				w.mu.Lock()
				defer w.mu.Unlock()
				if len(w.goaways) != 1 || w.goaways[0].ErrCode != http2.ErrCodeEnhanceYourCalm || w.debugs[0] != "too_many_pings" {
					t.Errorf("GOAWAY %v %q", w.goaways, w.debugs)
				}
			})
		})
	}
}

// TestTooManyStreams: those beyond the bound are refused, and one that ends makes room.
func TestTooManyStreams(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		release, entered := make(chan struct{}), make(chan struct{}, 10)
		l := start(t, k, options{maxStreams: 2, unary: func(_ context.Context, in []byte) ([]byte, error) {
			entered <- struct{}{}
			<-release
			return in, nil
		}})
		w := l.wire(t)
		for range 2 {
			w.message(w.call("Unary"), []byte("x"), true)
			receive(t, "a handler", entered)
		}
		third := w.call("Unary")
		w.ended(third)
		w.message(third, []byte("x"), true) // as if it had crossed
		w.mu.Lock()
		if got, max := w.reply(third).String(), w.settings[http2.SettingMaxConcurrentStreams]; got != "REFUSED_STREAM" || max != 2 {
			t.Errorf("the third: %s, with a limit of %d", got, max)
		}
		w.mu.Unlock()
		close(release)
		w.ended(1, 3)
		w.settle()
		for range 5 {
			id := w.call("Unary")
			w.message(id, []byte("x"), true)
			w.ended(id)
			w.mu.Lock()
			if got := w.reply(id).String(); got != `:status=200 content-type=application/grpc | "x" | grpc-status=0` {
				t.Errorf("afterwards: %s", got)
			}
			w.mu.Unlock()
		}
		// The stock client waits for its turn.
		conn := l.dial(t)
		done := make(chan outcome, 50)
		for i := range 50 {
			go func() { done <- call(t, conn, "Unary", fmt.Append(nil, i)) }()
		}
		go func() {
			for range 55 {
				<-entered
			}
		}()
		for range 50 {
			if o := receive(t, "an answer", done); o.status.Code() != codes.OK {
				t.Error(o)
			}
		}
	})
}
