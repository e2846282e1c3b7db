package lease

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMillion grants a million leases with one key each, in groups of 512, and loads them: the times are of one of
// each.
//
//	go test ./internal/lease -run '^$' -bench Million -benchtime 1x
func BenchmarkMillion(b *testing.B) {
	const leases, group = 1_000_000, 512
	for b.Loop() {
		l := newLab(b)
		start := time.Now()
		for at := 0; at < leases; at += group {
			l.group(true, func(c *Change) {
				for i := at; i < min(at+group, leases); i++ {
					// Ids that a server chose look random.
					id := int64(uint64(i+1) * 0x9e3779b97f4a7c15 >> 1)
					if err := c.Grant(id, 60); err != nil {
						b.Fatal(err)
					}
					l.check(c.Attach(id, fmt.Appendf(nil, "/registry/events/default/%08d", i)))
				}
			})
		}
		b.ReportMetric(float64(time.Since(start).Nanoseconds())/leases, "ns/grant")
		l.check(l.db.Flush())
		var before, after runtime.MemStats
		l.table = nil
		runtime.GC()
		runtime.ReadMemStats(&before)
		start = time.Now()
		table, err := Load(l.db)
		l.check(err)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/load")
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/leases, "B/lease")
		start = time.Now()
		if n := len(table.List()); n != leases {
			b.Fatalf("%d leases", n)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/list")
	}
}
