package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// grower starts to grow a share and tells when it has grown.
func grower(ctx context.Context, s *share, n int64) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.grow(ctx, n) }()
	return done
}

// waits checks that nothing comes until somebody waits at the budget.
func waits(t *testing.T, b *budget, done <-chan error) {
	t.Helper()
	for {
		b.mu.Lock()
		waiting := b.changed != nil
		b.mu.Unlock()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		if waiting {
			return
		}
		runtime.Gosched()
	}
}

func mustGrow(t *testing.T, done <-chan error) {
	t.Helper()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// written gives n bytes back as gRPC does.
func (s *share) written(n int) {
	p := make([]byte, n)
	s.Put(&p)
}

func TestTheBudgetMakesResponsesWait(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBudget(10)
	first, second := &share{b: b}, &share{b: b}
	mustGrow(t, grower(ctx, first, 6))
	later := grower(ctx, second, 6)
	waits(t, b, later)
	first.finish() // it is being written: that still counts
	waits(t, b, later)
	first.written(6)
	mustGrow(t, later)
	second.finish()
	second.written(6)
	if b.building != 0 || b.writing != 0 || len(b.order) != 0 {
		t.Errorf("left: %d %d %d", b.building, b.writing, len(b.order))
	}
}

func TestTheOldestResponseGoesOverTheBudgetAlone(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := newBudget(10)
	old, young, writing := &share{b: b}, &share{b: b}, &share{b: b}
	mustGrow(t, grower(ctx, writing, 2))
	mustGrow(t, grower(ctx, old, 4))
	mustGrow(t, grower(ctx, young, 4))
	writing.finish()

	more := grower(ctx, old, 100)
	waits(t, b, more) // as long as something will become free by itself
	writing.written(2)
	mustGrow(t, more)

	other := grower(ctx, young, 4)
	waits(t, b, other)
	old.finish()
	waits(t, b, other)
	old.written(104)
	mustGrow(t, other)
}

func TestWaitingForTheBudgetEndsWithTheContext(t *testing.T) {
	t.Parallel()
	b := newBudget(10)
	holder, late, last := &share{b: b}, &share{b: b}, &share{b: b}
	mustGrow(t, grower(context.Background(), holder, 10))
	ctx, cancel := context.WithCancel(context.Background())
	done := grower(ctx, late, 1)
	waits(t, b, done)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if len(b.order) != 1 {
		t.Errorf("%d responses are in order", len(b.order))
	}
	done = grower(context.Background(), last, 1)
	waits(t, b, done)
	holder.finish()
	holder.written(10)
	mustGrow(t, done)
}

func TestAClientThatHoldsOthersUpIsCutOff(t *testing.T) {
	t.Parallel()
	manual := clock.NewManual(time.Unix(0, 0))
	b := newBudget(10)
	b.clock, b.conns = manual, NewConns()
	closed := make(map[int]net.Conn)
	for port := range 4 {
		client, server := net.Pipe()
		b.conns.open[fmt.Sprintf("127.0.0.1:%d", port)] = server
		closed[port] = client
	}
	of := func(port int) context.Context {
		return peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}})
	}
	slow, reader, late := &share{b: b}, &share{b: b}, &share{b: b}
	mustGrow(t, grower(of(1), slow, 6))
	slow.finish()
	mustGrow(t, grower(of(2), reader, 4))
	reader.finish()

	manual.Advance(stallAfter) // nobody waits: it may take its time
	done := grower(of(3), late, 8)
	manual.WaitPending(1)
	manual.Advance(stallAfter - 1)
	reader.written(2) // makes the one that waits look again, and no more
	waits(t, b, done)
	manual.Advance(1)
	if _, err := closed[1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the slow client read: %v", err)
	}
	b.gone("127.0.0.1:1")
	mustGrow(t, done)
	slow.written(6) // late: it is not counted twice
	b.gone("127.0.0.1:3")
	delete(b.conns.open, "127.0.0.1:3")
	late.finish() // its client has gone while it was built
	reader.written(2)
	if b.building != 0 || b.writing != 0 || len(b.handed) != 0 {
		t.Errorf("left: %d %d %d", b.building, b.writing, len(b.handed))
	}
}

func TestASlowClientDoesNotLetMemoryGrow(t *testing.T) {
	t.Parallel()
	b := newBudget(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	large := func(ctx context.Context) (*Response, error) {
		r := newResponse(b)
		for range 3 << 20 / (64 << 10) {
			if err := r.field(ctx, rangeKVs, make([]byte, 64<<10)); err != nil {
				return r, err
			}
		}
		return r, nil
	}
	first, err := large(ctx) // alone it may
	if err != nil {
		t.Fatal(err)
	}
	held := first.take() // a client that does not read
	done := make(chan error, 1)
	go func() {
		r, err := large(ctx)
		r.drop()
		done <- err
	}()
	waits(t, b, done)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	held.Free()
	if b.building != 0 || b.writing != 0 {
		t.Errorf("left: %d %d", b.building, b.writing)
	}
}
