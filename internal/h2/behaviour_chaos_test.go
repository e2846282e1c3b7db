package h2_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// TestStopsAtAnyTime stops servers in the middle of calls of every kind, of which many are cancelled or run out of time: nothing
// hangs, no call gets a wrong answer, and no goroutine is left.
func TestStopsAtAnyTime(t *testing.T) {
	rounds := 6
	if *long {
		rounds = 300
	}
	both(t, func(t *testing.T, k kind) {
		for round := range rounds {
			var l *lab
			count := labelled(t, func() {
				lis, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				l = startOn(t, k, lis, options{maxStreams: []uint32{0, 5}[round%2]})
			})
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for worker := range 8 {
				conn := l.dial(t)
				random := rand.New(rand.NewPCG(uint64(round), uint64(worker)))
				wg.Go(func() {
					for ctx.Err() == nil {
						if !use(ctx, t, conn, random) {
							return
						}
					}
				})
			}
			random := rand.New(rand.NewPCG(uint64(round), 99))
			<-time.After(time.Duration(random.IntN(30)) * time.Millisecond)
			if round%3 > 0 {
				go l.GracefulStop()
			}
			if round%3 < 2 {
				within(t, "Stop", l.Stop)
			} else {
				within(t, "GracefulStop", l.GracefulStop)
			}
			cancel()
			within(t, "the clients", wg.Wait)
			eventually(t, "goroutines are left", func() bool { return count() == 0 })
		}
	})
}

// use makes one call that may be cancelled; false when the server is gone.
func use(ctx context.Context, t *testing.T, conn *grpc.ClientConn, random *rand.Rand) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch random.IntN(4) {
	case 0:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(5000))*time.Microsecond)
		defer cancel()
	case 1:
		timer := time.AfterFunc(time.Duration(random.IntN(2000))*time.Microsecond, cancel)
		defer timer.Stop()
	}
	size := random.IntN(3) * random.IntN(100_000)
	if random.IntN(2) == 0 {
		o := callIn(ctx, conn, "/lab.Lab/Unary", pattern(size))
		switch o.status.Code() {
		case codes.OK:
			if len(o.body) != size {
				t.Errorf("%d bytes for %d", len(o.body), size)
			}
		case codes.Unavailable:
			return false
		case codes.Canceled, codes.DeadlineExceeded:
		default:
			t.Errorf("%v", o)
		}
		return true
	}
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/lab.Lab/Bidi")
	for i := 0; err == nil && i < 5; i++ {
		if err = s.SendMsg(&message{pattern(size)}); err != nil {
			break
		}
		var out []byte
		if out, err = hear(s); err == nil && len(out) != size {
			t.Errorf("%d bytes of a stream for %d", len(out), size)
		}
	}
	if err == io.EOF {
		_, err = hear(s)
	}
	switch grpcCode(err) {
	case codes.OK, codes.Canceled, codes.DeadlineExceeded:
	case codes.Unavailable:
		return false
	default:
		t.Errorf("%v", err)
	}
	return true
}
