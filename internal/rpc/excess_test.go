package rpc

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// cacheOf counts what is reserved of a cache.
type cacheOf struct{ now, most atomic.Int64 }

func (c *cacheOf) reserve(bytes int64) func() {
	now := c.now.Add(bytes)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	return func() { c.now.Add(-bytes) }
}

func TestTheCacheGivesUpWhatLargeResponsesHold(t *testing.T) {
	t.Parallel()
	var cache cacheOf
	b := newBudget(1 << 30)
	b.giveBack = func() {}
	b.reserve = cache.reserve
	first, second := &share{b: b}, &share{b: b}
	want := func(after string, steps int64) {
		t.Helper()
		if got := cache.now.Load(); got != steps*reserveStep {
			t.Errorf("after %s %d bytes are reserved, want %d steps", after, got, steps)
		}
	}
	mustGrow(t, grower(t.Context(), first, reserveStep-1))
	want("less than a step", 0)
	mustGrow(t, grower(t.Context(), second, 2*reserveStep+1))
	want("two responses", 3)
	first.shrink(reserveStep - 1)
	want("an error in one", 2)
	second.finish()
	want("the other was handed on", 2)
	second.written(reserveStep)
	want("half of it was written", 1)
	second.written(reserveStep + 1)
	want("all was", 0)

	third := &share{b: b, client: "somebody"}
	b.conns = NewConns()
	mustGrow(t, grower(t.Context(), third, reserveStep))
	want("a third response", 1)
	third.finish() // its connection is gone
	want("its client has gone", 0)
}

func TestMemoryGoesBackAfterLargeResponsesButNotOften(t *testing.T) {
	t.Parallel()
	manual := clock.NewManual(time.Unix(1000, 0))
	b := newBudget(1 << 30)
	b.clock = manual
	returned := make(chan struct{}, 10)
	b.giveBack = func() { returned <- struct{}{} }
	answer := func(bytes int64) {
		t.Helper()
		s := &share{b: b}
		mustGrow(t, grower(t.Context(), s, bytes))
		s.shrink(bytes)
	}
	answer(giveBackFrom - 1)
	if b.pending {
		t.Fatal("memory goes back after a small response")
	}
	answer(giveBackFrom)
	manual.Advance(0)
	<-returned
	answer(giveBackFrom)
	answer(giveBackFrom)
	manual.Advance(giveBackEvery - 1)
	held := &share{b: b}
	mustGrow(t, grower(t.Context(), held, 1))
	manual.Advance(1)
	if b.pending || len(returned) != 0 {
		t.Fatal("memory went back too soon, or while a response was held")
	}
	held.shrink(1)
	manual.Advance(0)
	<-returned
	if len(returned) != 0 {
		t.Error("memory went back twice")
	}
}

// TestNothingStaysReservedAfterRangesThatEndInAnyWay has clients read large ranges, abandon them at any moment, and lose their
// connection; when all are done, the cache is whole.
func TestNothingStaysReservedAfterRangesThatEndInAnyWay(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	for i := range 36 {
		put(t, s, fmt.Sprintf("big/%02d", i), strings.Repeat("x", 512<<10))
	}
	var cache cacheOf
	conns := NewConns()
	kv := NewKV(s, KVOptions{ResponseBudget: 40 << 20, Conns: conns, ReserveCache: cache.reserve})
	address := serveKV(t, kv, conns)
	all := &etcdserverpb.RangeRequest{Key: []byte("big/"), RangeEnd: []byte("big0")}
	var wg sync.WaitGroup
	for i := range 9 {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer func() { _ = c.Close() }()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			switch i % 3 {
			case 0: // it reads all
				var out etcdserverpb.RangeResponse
				if err := c.Invoke(ctx, "/etcdserverpb.KV/Range", all, &out); err != nil {
					t.Error(err)
				}
			case 1: // it loses patience while the response is built or waits for the budget
				ctx, stop := context.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
				defer stop()
				_ = c.Invoke(ctx, "/etcdserverpb.KV/Range", all, &etcdserverpb.RangeResponse{})
			case 2: // it goes away with the response on its way
				stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/etcdserverpb.KV/Range")
				if err == nil && stream.SendMsg(all) == nil && stream.CloseSend() == nil {
					_, _ = stream.Header()
				}
			}
		})
	}
	wg.Wait()
	if cache.most.Load() < reserveStep {
		t.Errorf("at most %d bytes were reserved", cache.most.Load())
	}
	deadline := time.Now().Add(2 * time.Minute)
	for cache.now.Load() != 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes stay reserved", cache.now.Load())
		}
		runtime.Gosched()
	}
}
