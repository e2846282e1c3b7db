package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// BenchmarkMTLS is puts and gets as BenchmarkPut and BenchmarkGet measure them, in the clear and with client certificates.
func BenchmarkMTLS(b *testing.B) {
	for _, on := range []struct {
		name string
		make func() *member
	}{
		{"clear", func() *member { return newMember(b) }},
		{"mtls", func() *member { return newEncrypted(b, true).member }},
	} {
		m := on.make()
		s := m.start(b)
		fill(b, m.connect(b), *keysFlag)
		for _, clients := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/put/%s", on.name, clientsName(clients)), func(b *testing.B) {
				value := loadValue(0)
				measure(b, m, s, clients, func(ctx context.Context, c *clientv3.Client, i int) error {
					_, err := c.Put(ctx, loadKey(i), value)
					return err
				})
			})
			b.Run(fmt.Sprintf("%s/get/%s", on.name, clientsName(clients)), func(b *testing.B) {
				measure(b, m, s, clients, func(ctx context.Context, c *clientv3.Client, _ int) error {
					_, err := c.Get(ctx, loadKey(rand.IntN(*keysFlag)))
					return err
				})
			})
		}
		s.stop(b)
	}
}

const (
	largeKeys  = 10
	largeBytes = 1 << 20
	// largeRanges go on at a time on the connection of the watch.
	largeRanges = 10
)

// fillLarge stores what a range of ten megabytes reads.
func fillLarge(tb testing.TB, c *clientv3.Client) {
	tb.Helper()
	value := strings.Repeat("x", largeBytes)
	for i := range largeKeys {
		_, err := c.Put(within(tb, process.Patience), fmt.Sprintf("large/%d", i), value)
		noError(tb, err)
	}
}

// readLarge reads ten megabytes again and again until the context ends, and counts.
func readLarge(ctx context.Context, c *clientv3.Client, done *atomic.Int64) error {
	for ctx.Err() == nil {
		r, err := c.Get(ctx, "large/", clientv3.WithPrefix())
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || len(r.Kvs) != largeKeys {
			return fmt.Errorf("a large range: %v", err)
		}
		done.Add(1)
	}
	return nil
}

// BenchmarkWatchBesideLargeRanges is the time from a put to its event on a connection with TLS that ten ranges of ten megabytes
// each keep busy; lag is that from the answer of the put, on another connection, to the event, without what the disk takes. In etcd 3.7.1 such ranges can hold a watch up for good (its issue 15402).
func BenchmarkWatchBesideLargeRanges(b *testing.B) {
	e := newEncrypted(b, true)
	e.start(b)
	writer, busy := e.connect(b), e.connect(b)
	fillLarge(b, writer)
	for _, ranges := range []int{0, largeRanges} {
		b.Run(fmt.Sprintf("ranges=%d", ranges), func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			var done atomic.Int64
			defer running.Wait()
			defer cancel()
			events := busy.Watch(ctx, "watched", clientv3.WithCreatedNotify())
			<-events
			for range ranges {
				running.Go(func() {
					if err := readLarge(ctx, busy, &done); err != nil {
						b.Error(err)
					}
				})
			}
			for ranges > 0 && done.Load() == 0 {
				_, err := writer.Get(ctx, "k") // until they are under way
				noError(b, err)
			}
			delays, lags := make([]time.Duration, b.N), make([]time.Duration, b.N)
			b.ResetTimer()
			for i := range b.N {
				begin := time.Now()
				_, err := writer.Put(ctx, "watched", "v")
				noError(b, err)
				answered := time.Now()
				if r := <-events; r.Err() != nil || len(r.Events) != 1 {
					b.Fatalf("the watch got %+v", r)
				}
				delays[i], lags[i] = time.Since(begin), time.Since(answered)
			}
			b.StopTimer()
			slices.Sort(delays)
			slices.Sort(lags)
			b.ReportMetric(float64(lags[b.N/2].Microseconds())/1000, "lag-p50-ms")
			b.ReportMetric(float64(lags[b.N*99/100].Microseconds())/1000, "lag-p99-ms")
			b.ReportMetric(float64(delays[b.N/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(delays[b.N*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(delays[b.N-1].Microseconds())/1000, "max-ms")
			b.ReportMetric(float64(done.Load()), "ranges")
		})
	}
}
