package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var keysFlag = flag.Int("keys", 20_000, "number of keys in the benchmarks' store; the goals are for 1000000")

// connectionsMax is how many connections the clients of a benchmark share, as many clients of a Kubernetes control plane do.
const connectionsMax = 100

// BenchmarkPut is a put of 256 bytes at a key of 32, from the client to the disk and back.
func BenchmarkPut(b *testing.B) {
	m := newMember(b)
	s := m.start(b)
	for _, clients := range []int{1, 1000} {
		b.Run(clientsName(clients), func(b *testing.B) {
			value := loadValue(0)
			measure(b, m, s, clients, func(ctx context.Context, c *clientv3.Client, i int) error {
				_, err := c.Put(ctx, loadKey(i), value)
				return err
			})
		})
	}
}

// BenchmarkGet is a linearizable get of one of -keys keys.
func BenchmarkGet(b *testing.B) {
	m, s := loaded(b)
	for _, clients := range []int{1, 1000} {
		b.Run(clientsName(clients), func(b *testing.B) {
			measure(b, m, s, clients, func(ctx context.Context, c *clientv3.Client, _ int) error {
				_, err := c.Get(ctx, loadKey(rand.IntN(*keysFlag)))
				return err
			})
		})
	}
}

// BenchmarkPage is a page of 500 keys, with the count of all that follow, as a Kubernetes list reads it.
func BenchmarkPage(b *testing.B) {
	m, s := loaded(b)
	const limit = 500
	measure(b, m, s, 1, func(ctx context.Context, c *clientv3.Client, _ int) error {
		first := rand.IntN(max(1, *keysFlag-limit))
		answer, err := c.Get(ctx, loadKey(first), clientv3.WithRange("load0"), clientv3.WithLimit(limit))
		if err == nil && (answer.Count != int64(*keysFlag-first) || len(answer.Kvs) != min(limit, *keysFlag)) {
			b.Errorf("the page from key %d: got %d keys, count %d", first, len(answer.Kvs), answer.Count)
		}
		return err
	})
}

func clientsName(clients int) string {
	if clients == 1 {
		return "clients=1"
	}
	return "clients=1000"
}

// loaded is a served member with -keys keys.
func loaded(b *testing.B) (*member, *server) {
	m := newMember(b)
	s := m.start(b)
	fill(b, m.connect(b), *keysFlag)
	return m, s
}

// measure runs request b.N times from a number of clients, each with one request at a time, and reports beside the usual
// figures the median and the 99th percentile of the latency and the server's CPU time for one request.
func measure(b *testing.B, m *member, s *server, clients int, request func(ctx context.Context, c *clientv3.Client, i int) error) {
	connections := make([]*clientv3.Client, min(clients, connectionsMax))
	for i := range connections {
		connections[i] = m.connect(b)
		if _, err := connections[i].Get(b.Context(), "connected?"); err != nil {
			b.Fatal(err)
		}
	}
	latencies := make([]time.Duration, b.N)
	var next atomic.Int64
	var running sync.WaitGroup
	before, cpuErr := process.CPUTime(s.PID())
	b.ResetTimer()
	for client := range clients {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				begin := time.Now()
				if err := request(b.Context(), connections[client%len(connections)], i); err != nil {
					b.Error(err)
					return
				}
				latencies[i] = time.Since(begin)
			}
		})
	}
	running.Wait()
	b.StopTimer()
	after, err := process.CPUTime(s.PID())
	if cpuErr == nil && err == nil {
		b.ReportMetric(float64((after-before).Nanoseconds())/1000/float64(b.N), "server-cpu-µs/op")
	}
	slices.Sort(latencies)
	b.ReportMetric(float64(latencies[b.N/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(latencies[b.N*99/100].Nanoseconds())/1000, "p99-µs")
	for _, c := range connections {
		c.Close()
	}
}
