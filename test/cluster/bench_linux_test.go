package cluster

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// benchConns and benchClients are the load of a benchmark: so many connections, spread over the members, and clients on them.
const (
	benchConns   = 100
	benchClients = 1000
	valueBytes   = 256
)

// BenchmarkPut measures puts at three members. With -server they run another program:
//
//	go test ./test/cluster -run xxx -bench . -benchtime 5s -server /usr/bin/etcd
func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, benchClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			value := string(bytes.Repeat([]byte{'v'}, valueBytes))
			measure(b, clients, func(cl *clientv3.Client, i int64) error {
				_, err := cl.Put(b.Context(), fmt.Sprintf("key/%d", i%100_000), value)
				return err
			})
		})
	}
}

// BenchmarkGet measures linearizable gets at three members.
func BenchmarkGet(b *testing.B) {
	for _, clients := range []int{1, benchClients} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			measure(b, clients, func(cl *clientv3.Client, i int64) error {
				_, err := cl.Get(b.Context(), fmt.Sprintf("key/%d", i%100_000))
				return err
			})
		})
	}
}

// measure runs a request by clients on at most benchConns connections and reports the rate and the members' CPU.
func measure(b *testing.B, clients int, request func(*clientv3.Client, int64) error) {
	c := newCluster(b, 3)
	conns := make([]*clientv3.Client, min(clients, benchConns))
	for i := range conns {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{c.members[i%3].client}, DialTimeout: patience})
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

// ticksPerSecond is USER_HZ, in which /proc counts.
const ticksPerSecond = 100

// cpu is what all members have used, to 10 ms.
func (c *cluster) cpu() (sum time.Duration) {
	c.Helper()
	for _, m := range c.members {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.cmd.Process.Pid))
		if err != nil {
			c.Fatal(err)
		}
		// The name may hold blanks; user and system time are the 12th and 13th field behind it.
		for _, field := range bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[11:13] {
			n, err := strconv.ParseInt(string(field), 10, 64)
			if err != nil {
				c.Fatal(err)
			}
			sum += time.Duration(n) * time.Second / ticksPerSecond
		}
	}
	return sum
}
