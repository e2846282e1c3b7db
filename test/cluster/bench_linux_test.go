package cluster

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// benchConns and benchClients are the load of a benchmark: so many connections, spread over the members, and clients on them,
// who write values of valueBytes, or read benchKeys keys that have such values.
const (
	benchConns   = 100
	benchClients = 1000
	benchKeys    = 100_000
	valueBytes   = 256
)

// BenchmarkPut measures puts at three members. With -server they run another program:
//
//	go test ./test/cluster -run xxx -bench . -benchtime 5s -server /usr/bin/etcd
func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, benchClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			value := string(bytes.Repeat([]byte{'v'}, valueBytes))
			measure(b, clients, 0, func(cl *clientv3.Client, i int64) error {
				_, err := cl.Put(b.Context(), fmt.Sprintf("key/%d", i%100_000), value)
				return err
			})
		})
	}
}

// BenchmarkGet measures linearizable gets of benchKeys keys, in no order, at three members.
func BenchmarkGet(b *testing.B) {
	for _, clients := range []int{1, benchClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			measure(b, clients, benchKeys, func(cl *clientv3.Client, i int64) error {
				resp, err := cl.Get(b.Context(), fmt.Sprintf("whole/%08d", i*7919%benchKeys))
				if err == nil && len(resp.Kvs) != 1 {
					err = fmt.Errorf("get %d found %d keys", i, len(resp.Kvs))
				}
				return err
			})
		})
	}
}

// measure runs a request by clients on at most benchConns connections, at a cluster of so many keys, and reports the rate and
// the members' CPU.
func measure(b *testing.B, clients, keys int, request func(*clientv3.Client, int64) error) {
	c := newCluster(b, 3)
	c.fillWhole(b, keys, strings.Repeat("v", valueBytes))
	conns := make([]*clientv3.Client, min(clients, benchConns))
	for i := range conns {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{c.members[i%3].client}, DialTimeout: process.Patience})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { cl.Close() })
		if err := request(cl, 0); err != nil {
			b.Fatal(err)
		}
		conns[i] = cl
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	before, begin := c.cpu(), time.Now()
	b.ResetTimer()
	for i := range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := request(conns[i%len(conns)], n); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "req/s")
	b.ReportMetric(float64((c.cpu()-before).Microseconds())/float64(b.N), "cpu-µs/req")
}

// cpu is what all members have used, to 10 ms.
func (c *cluster) cpu() time.Duration { return c.cpuOf(c.members) }

// cpuOf is what some members have used.
func (c *cluster) cpuOf(members []*member) (sum time.Duration) {
	c.Helper()
	for _, m := range members {
		used, err := process.CPUTime(m.process.PID())
		if err != nil {
			c.Fatal(err)
		}
		sum += used
	}
	return sum
}

// wholeBytes is how much BenchmarkWholeAgain writes in one transaction, at most wholeOps values.
const (
	wholeOps   = 100
	wholeBytes = 1 << 20
)

// BenchmarkWholeAgain measures how long a member that lost its data takes to be whole again while clients write, and what
// becomes of their rate; and how long while nobody does. One iteration is enough: -benchtime 1x.
func BenchmarkWholeAgain(b *testing.B) {
	for _, x := range []struct {
		name        string
		keys, bytes int
	}{{"values=256", 1_000_000, 256}, {"values=64KiB", 16_384, 64 << 10}} {
		b.Run(x.name, func(b *testing.B) { wholeAgain(b, x.keys, strings.Repeat("v", x.bytes)) })
	}
}

func wholeAgain(b *testing.B, keys int, value string) {
	c := newCluster(b, 3, "--snapshot-catchup-entries", "100", "--quota-backend-bytes", "-1", "--max-request-bytes", "10000000")
	c.fillWhole(b, keys, value)
	for b.Loop() {
		leader := c.leader()
		old := c.others(leader)[0]
		old.kill(b)
		c.remove(c.leader(c.others(old)...), old)
		begin := time.Now()
		x := c.add(c.leader(), false)
		b.ReportMetric(time.Since(begin).Seconds(), "s/whole-alone")
		x.kill(b)
		c.remove(c.leader(c.others(old, x)...), x)

		l := c.newLoad(8)
		before := l.rate(c, 5*time.Second)
		begin = time.Now()
		x = c.add(c.leader(), false)
		whole := time.Since(begin)
		during := l.rate(c, 0)
		b.ReportMetric(whole.Seconds(), "s/whole")
		b.ReportMetric(100*during/before, "%-of-writes")
		b.Logf("%.0f writes a second before, %.0f meanwhile; %v", before, during, x.process.Log.Last("received a snapshot"))
		l.end(c)
	}
}

// fillWhole writes count keys, many in a transaction.
func (c *cluster) fillWhole(b *testing.B, count int, value string) {
	b.Helper()
	var wg sync.WaitGroup
	const fillers = 16
	size := min(wholeOps, max(1, wholeBytes/len(value)))
	for f := range fillers {
		wg.Go(func() {
			for at := f * size; at < count; at += fillers * size {
				ops := make([]clientv3.Op, size)
				for i := range ops {
					ops[i] = clientv3.OpPut(fmt.Sprintf("whole/%08d", at+i), value)
				}
				if _, err := c.client(c.members[0]).Txn(b.Context()).Then(ops...).Commit(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// rate returns the writes a second since it was last asked, or over d from now on.
func (l *load) rate(c *cluster, d time.Duration) float64 {
	c.Helper()
	if d > 0 {
		l.since, l.base = time.Now(), l.acks.Load()
		<-time.After(d)
	}
	rate := float64(l.acks.Load()-l.base) / time.Since(l.since).Seconds()
	l.since, l.base = time.Now(), l.acks.Load()
	return rate
}
