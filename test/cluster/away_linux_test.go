package cluster

import (
	"bytes"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var (
	beforeFlag = flag.Int("before", 100_000, "how many keys there are before BenchmarkComesBack")
	awayFlag   = flag.Int("away", 100_000, "how many puts a follower misses in it")
)

// BenchmarkComesBack measures how long a follower that was killed takes, from its start, until it has the last of the puts that it
// missed. One iteration is enough:
//
//	go test ./test/cluster -run xxx -bench ComesBack -benchtime 1x -away 100000
func BenchmarkComesBack(b *testing.B) {
	c := newCluster(b, 3)
	value := string(bytes.Repeat([]byte{'v'}, valueBytes))
	c.fillWhole(b, *beforeFlag, value)
	for b.Loop() {
		b.StopTimer()
		x := c.others(c.leader())[0]
		x.kill(b)
		c.putMany(b, "away", *awayFlag, value)
		c.put(c.leader(c.others(x)...), "away/last", value)
		before := c.cpuOf(c.others(x))
		b.StartTimer()
		begin := time.Now()
		x.launch(b)
		c.eventually("the last put at "+x.name, func() bool {
			r, err := c.client(x).Get(c.within(), "away/last", clientv3.WithSerializable())
			return err == nil && r.Count == 1
		})
		b.ReportMetric(time.Since(begin).Seconds(), "s/back")
		cpu, err := process.CPUTime(x.process.PID())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(cpu.Seconds(), "cpu-s/follower")
		b.ReportMetric((c.cpuOf(c.others(x)) - before).Seconds(), "cpu-s/others")
		b.Logf("%v", x.process.Log.Last("received a snapshot"))
	}
}

// putMany puts keys through the leader by many clients.
func (c *cluster) putMany(b *testing.B, prefix string, count int, value string) {
	b.Helper()
	cl := c.client(c.leader())
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(count); i = next.Add(1) {
				if _, err := cl.Put(b.Context(), fmt.Sprintf("%s/%08d", prefix, i), value); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
