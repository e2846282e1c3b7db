package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var (
	revisionsFlag = flag.Int("revisions", 20_000, "revisions of history in the benchmarks of catching up and compaction; the goals are for 500000 and 1000000")
	rateFlag      = flag.Int("rate", 2000, "puts a second of the writer beside catching up and compaction")
	watchersFlag  = flag.Int("watchers", 10_000, "idle watchers in the benchmark of their memory; the goal is for 1000000")
)

// everything is the range of all keys of the benchmarks.
func everything() *etcdserverpb.WatchCreateRequest {
	return &etcdserverpb.WatchCreateRequest{Key: []byte("load/"), RangeEnd: []byte("load0")}
}

// crowd is a number of raw watchers that count together what they get.
type crowd struct {
	created atomic.Int64
	events  atomic.Int64

	mu      sync.Mutex
	waiting map[*atomic.Int64]goal
}

// goal is a count to wait for.
type goal struct {
	count   int64
	reached chan time.Time
}

// gather opens streams over connections and creates watchers on each of them.
func gather(b *testing.B, m *member, connections, streams, watchers int, request func(i int) *etcdserverpb.WatchCreateRequest) *crowd {
	b.Helper()
	cr := &crowd{waiting: make(map[*atomic.Int64]goal)}
	conns := make([]*rawConn, connections)
	for i := range conns {
		conns[i] = dialRaw(b, m)
	}
	created := cr.when(&cr.created, int64(watchers))
	for i := range streams {
		s := conns[i%connections].open(b, cr.message)
		var requests []*etcdserverpb.WatchCreateRequest
		for j := i; j < watchers; j += streams {
			requests = append(requests, request(j))
		}
		s.create(b, requests...)
	}
	awaitGoal(b, created)
	return cr
}

func (c *crowd) message(raw []byte) {
	created, events := watchResponse(raw)
	if created {
		c.add(&c.created, 1)
	}
	if events > 0 {
		c.add(&c.events, int64(events))
	}
}

func (c *crowd) add(counter *atomic.Int64, n int64) {
	total := counter.Add(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	if g, ok := c.waiting[counter]; ok && total >= g.count {
		delete(c.waiting, counter)
		g.reached <- time.Now()
	}
}

// when gives the time at which the counter reaches a count that it has not reached yet.
func (c *crowd) when(counter *atomic.Int64, count int64) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := goal{count, make(chan time.Time, 1)}
	c.waiting[counter] = g
	return g.reached
}

func awaitGoal(b *testing.B, reached <-chan time.Time) time.Time {
	b.Helper()
	timer := time.NewTimer(10 * time.Minute)
	defer timer.Stop()
	select {
	case at := <-reached:
		return at
	case <-timer.C:
		b.Fatal("what was awaited did not come")
		return time.Time{}
	}
}

// BenchmarkWatchFanOut is a put that 10,000 watchers on 100 streams see. After its answer came, "last" is the time until
// the last of them has its event; an operation is both together.
func BenchmarkWatchFanOut(b *testing.B) {
	const watchers = 10_000
	m := newMember(b)
	s := m.start(b)
	c := m.connect(b)
	value := loadValue(1)
	_, err := c.Put(b.Context(), loadKey(1), value)
	noError(b, err)
	cr := gather(b, m, 10, 100, watchers, func(int) *etcdserverpb.WatchCreateRequest { return everything() })
	var last []time.Duration
	cpu := serverCPU(b, s)
	b.ResetTimer()
	for range b.N {
		all := cr.when(&cr.events, cr.events.Load()+watchers)
		_, err := c.Put(b.Context(), loadKey(1), value)
		answered := time.Now()
		noError(b, err)
		last = append(last, max(0, awaitGoal(b, all).Sub(answered)))
	}
	b.StopTimer()
	cpu(b.N)
	report(b, "last", last)
}

// BenchmarkWatchedWriter is a put of one client that waits for each answer, without watchers and with 1,000 on 10 streams.
func BenchmarkWatchedWriter(b *testing.B) {
	for _, watchers := range []int{0, 1000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			m := newMember(b)
			s := m.start(b)
			c := m.connect(b)
			value := loadValue(1)
			_, err := c.Put(b.Context(), loadKey(1), value)
			noError(b, err)
			cr := gather(b, m, 2, 10, watchers+1, func(i int) *etcdserverpb.WatchCreateRequest {
				if i == watchers { // one that sees nothing, so that there is always one
					return &etcdserverpb.WatchCreateRequest{Key: []byte("nothing")}
				}
				return everything()
			})
			all := cr.when(&cr.events, int64(b.N*watchers))
			cpu := serverCPU(b, s)
			b.ResetTimer()
			begin := time.Now()
			for i := range b.N {
				_, err := c.Put(b.Context(), loadKey(i), value)
				noError(b, err)
			}
			b.StopTimer()
			written := time.Now()
			b.ReportMetric(float64(b.N)/written.Sub(begin).Seconds(), "puts/s")
			if watchers > 0 {
				b.ReportMetric(max(0, float64(awaitGoal(b, all).Sub(written).Microseconds())), "last-µs")
			}
			cpu(b.N)
		})
	}
}

// BenchmarkWatchCatchUp is a watcher that starts -revisions behind, beside a writer held at -rate.
func BenchmarkWatchCatchUp(b *testing.B) {
	m := newMember(b)
	s := m.start(b)
	c := m.connect(b)
	first := writeHistory(b, c, *revisionsFlag)
	quiet := startWriter(b, c).after(5 * time.Second)
	var took time.Duration
	var got int64
	cpu := serverCPU(b, s)
	w := startWriter(b, c)
	b.ResetTimer()
	for range b.N {
		cr := &crowd{waiting: make(map[*atomic.Int64]goal)}
		all := cr.when(&cr.events, int64(*revisionsFlag))
		r := everything()
		r.StartRevision = first
		begin := time.Now()
		dialRaw(b, m).open(b, cr.message).create(b, r)
		took += awaitGoal(b, all).Sub(begin)
		got += cr.events.Load()
	}
	b.StopTimer()
	report(b, "quiet", quiet)
	report(b, "beside", w.after(0))
	b.ReportMetric(float64(got)/took.Seconds(), "events/s")
	cpu(b.N)
}

// BenchmarkIdleWatchers is the memory of a watcher that nothing happens to: each has a key of its own.
func BenchmarkIdleWatchers(b *testing.B) {
	for range b.N {
		m := newMember(b)
		s := m.start(b)
		before, err := process.ResidentBytes(s.PID())
		noError(b, err)
		begin := time.Now()
		gather(b, m, 10, 100, *watchersFlag, func(i int) *etcdserverpb.WatchCreateRequest {
			return &etcdserverpb.WatchCreateRequest{Key: []byte(loadKey(i))}
		})
		b.ReportMetric(float64(*watchersFlag)/time.Since(begin).Seconds(), "created/s")
		after, err := process.ResidentBytes(s.PID())
		noError(b, err)
		b.ReportMetric(float64(after-before)/float64(*watchersFlag), "resident-bytes/watcher")
		s.stop(b)
	}
}

// BenchmarkPutDuringCompaction is a writer held at -rate before and during the compaction of -revisions.
func BenchmarkPutDuringCompaction(b *testing.B) {
	m := newMember(b)
	m.start(b)
	c := m.connect(b)
	for range b.N {
		writeHistory(b, c, *revisionsFlag)
		report(b, "quiet", startWriter(b, c).after(5*time.Second))
		now, err := c.Get(b.Context(), "any")
		noError(b, err)
		w := startWriter(b, c)
		begin := time.Now()
		_, err = c.Compact(b.Context(), now.Header.Revision, clientv3.WithCompactPhysical())
		noError(b, err)
		b.ReportMetric(time.Since(begin).Seconds(), "compaction-s")
		report(b, "beside", w.after(0))
	}
}

// writeHistory makes that many revisions of 20,000 keys and returns the first of them.
func writeHistory(b *testing.B, c *clientv3.Client, revisions int) int64 {
	b.Helper()
	const keys, atATime = 20_000, 256
	answer, err := c.Get(b.Context(), "any")
	noError(b, err)
	var next atomic.Int64
	var writers sync.WaitGroup
	value := loadValue(2)
	for range atATime {
		writers.Go(func() {
			for i := int(next.Add(1)); i <= revisions; i = int(next.Add(1)) {
				if _, err := c.Put(b.Context(), loadKey(i%keys), value); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	return answer.Header.Revision + 1
}

// pacedWriter puts at a fixed rate, however long one takes, and notes how long each took from when it was due.
type pacedWriter struct {
	begin   time.Time
	stop    context.CancelFunc
	writers sync.WaitGroup
	mu      sync.Mutex
	took    []time.Duration
}

func startWriter(b *testing.B, c *clientv3.Client) *pacedWriter {
	b.Helper()
	const writers = 20
	ctx, stop := context.WithCancel(b.Context())
	w := &pacedWriter{begin: time.Now(), stop: stop}
	value := loadValue(3)
	for i := range writers {
		w.writers.Go(func() {
			due := w.begin.Add(time.Duration(i) * time.Second / time.Duration(*rateFlag))
			timer := time.NewTimer(time.Until(due))
			defer timer.Stop()
			for n := i; ; n += writers {
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				if _, err := c.Put(b.Context(), loadKey(n%20_000), value); err != nil {
					b.Error(err)
					return
				}
				w.mu.Lock()
				w.took = append(w.took, time.Since(due))
				w.mu.Unlock()
				due = due.Add(writers * time.Second / time.Duration(*rateFlag))
				timer.Reset(time.Until(due))
			}
		})
	}
	return w
}

// after ends the writer that long after its begin, at once when that was earlier, and returns its latencies.
func (w *pacedWriter) after(d time.Duration) []time.Duration {
	timer := time.NewTimer(time.Until(w.begin.Add(d)))
	defer timer.Stop()
	<-timer.C
	w.stop()
	w.writers.Wait()
	return w.took
}

// report reports the median and the 99th percentile of latencies, and the worst.
func report(b *testing.B, name string, latencies []time.Duration) {
	if len(latencies) == 0 {
		return
	}
	slices.Sort(latencies)
	for unit, at := range map[string]int{"p50": len(latencies) / 2, "p99": len(latencies) * 99 / 100, "max": len(latencies) - 1} {
		b.ReportMetric(float64(latencies[at].Microseconds()), name+"-"+unit+"-µs")
	}
}

// serverCPU measures from now on; the function reports what each of n operations took.
func serverCPU(b *testing.B, s *server) func(n int) {
	b.Helper()
	before, err := process.CPUTime(s.PID())
	return func(n int) {
		if after, e := process.CPUTime(s.PID()); err == nil && e == nil {
			b.ReportMetric(float64((after-before).Microseconds())/float64(n), "server-cpu-µs/op")
		}
	}
}
