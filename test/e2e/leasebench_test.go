package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/test/process"
)

// BenchmarkLeaseGrant grants leases from many clients.
func BenchmarkLeaseGrant(b *testing.B) {
	m := newMember(b)
	s := m.start(b)
	before, memoryErr := process.ResidentBytes(s.PID())
	b.ResetTimer()
	grantLeases(b, m, b.N, 1_000_000)
	b.StopTimer()
	if after, err := process.ResidentBytes(s.PID()); err == nil && memoryErr == nil {
		b.ReportMetric(float64(after-before)/float64(b.N), "server-bytes/lease")
	}
}

// BenchmarkLeaseKeepAlive renews -leases leases over and over: on a few streams, many at a time, and on many, one after the other.
func BenchmarkLeaseKeepAlive(b *testing.B) {
	for _, x := range []struct{ streams, window int }{{8, 100}, {64, 1}} {
		b.Run(fmt.Sprintf("streams=%d/window=%d", x.streams, x.window), func(b *testing.B) {
			m := newMember(b)
			s := m.start(b)
			grantLeases(b, m, *leasesFlag, 1_000_000)
			used := serverCPU(b, s)
			b.ResetTimer()
			renewLeases(b, m, x.streams, x.window, b.N, func(n int64) int64 { return n*7919%int64(*leasesFlag) + 1 })
			b.StopTimer()
			used(b.N)
		})
	}
}

// renewLeases renews count leases, of which id gives the one whose turn it is, on so many streams, at most window at a time on each.
func renewLeases(tb testing.TB, m *member, streams, window, count int, id func(n int64) int64) {
	tb.Helper()
	var next atomic.Int64
	var running sync.WaitGroup
	defer running.Wait()
	for range streams {
		stream, err := etcdserverpb.NewLeaseClient(m.connect(tb).ActiveConnection()).LeaseKeepAlive(tb.Context())
		noError(tb, err)
		running.Go(func() {
			sent, received := 0, 0
			for {
				if n := next.Add(1); n <= int64(count) {
					if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id(n)}); err != nil {
						tb.Error(err)
						return
					}
					if sent++; sent-received < window {
						continue
					}
				} else if received == sent {
					return
				}
				if r, err := stream.Recv(); err != nil || r.TTL == 0 {
					tb.Errorf("answer %v, %v", r, err)
					return
				}
				received++
			}
		})
	}
}

// BenchmarkManyLeases is the life of -leases leases: all are granted and renewed, the server is killed and started again, and a
// tenth of them, each with a key, are due at once then, beside -writers clients that write.
//
//	go test ./test/e2e -run '^$' -bench ManyLeases -benchtime 1x -leases 1000000
func BenchmarkManyLeases(b *testing.B) {
	for range b.N {
		m := newMember(b)
		s := m.start(b)
		c := m.connect(b)
		resident, memoryErr := process.ResidentBytes(s.PID())
		due := *leasesFlag / 10
		ttl := int64(10 + due/2500)
		rate := func(name string, n int, do func()) {
			begin := time.Now()
			do()
			b.ReportMetric(float64(n)/time.Since(begin).Seconds(), name)
		}
		rate("granted/s", *leasesFlag-due, func() { grantFrom(b, m, due+1, *leasesFlag, 1_000_000) })
		rate("renewed/s", *leasesFlag-due, func() {
			renewLeases(b, m, 8, 100, *leasesFlag-due, func(n int64) int64 { return int64(due) + n })
		})
		memory := func(name string) {
			if now, err := process.ResidentBytes(s.PID()); err == nil && memoryErr == nil {
				b.ReportMetric(float64(now-resident)/float64(*leasesFlag), name)
			}
		}
		memory("server-bytes/lease")
		grantLeases(b, m, due, ttl)
		attachKeys(b, c, due)
		if got := countLeased(b, c); got != int64(due) {
			b.Fatalf("%d keys hang on leases, want %d: the machine is too slow for times to live of %d s", got, due, ttl)
		}
		s.Kill()
		begin := time.Now()
		s = m.start(b)
		b.ReportMetric(time.Since(begin).Seconds(), "restart-s")
		usual, meanwhile, took := writeWhileLeasesEnd(b, m.connect(b), int64(due), time.Now().Add(time.Duration(ttl)*time.Second))
		b.ReportMetric(took.Seconds(), "gone-s")
		b.ReportMetric(usual, "puts/s-before")
		b.ReportMetric(meanwhile, "puts/s-meanwhile")
		memory("server-bytes/lease-restarted")
		s.stop(b)
	}
}
