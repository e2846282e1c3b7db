package cluster

import (
	"testing"
	"time"
)

// BenchmarkNewLeader measures how long nobody can write after the leader was killed, with the default election timeout of a second:
//
//	go test ./test/cluster -run xxx -bench NewLeader -benchtime 20x
func BenchmarkNewLeader(b *testing.B) {
	c := newCluster(b, 3)
	l := c.newLoad(4)
	var sum, longest time.Duration
	for b.Loop() {
		old := c.leader()
		l.use(c.others(old))
		l.progress(c, 200)
		l.pause()
		old.kill(b)
		l.progress(c, 200)
		took := l.pause()
		sum, longest = sum+took, max(longest, took)
		old.start(b)
		c.follows(old)
	}
	b.ReportMetric(sum.Seconds()/float64(b.N), "s/new-leader")
	b.ReportMetric(longest.Seconds(), "s/longest")
	l.end(c)
}
