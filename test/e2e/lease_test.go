package e2e

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

var (
	leasesFlag  = flag.Int("leases", 2_000, "leases in the tests and benchmarks of leases; the goals are for 100000 due at once and 1000000 altogether")
	writersFlag = flag.Int("writers", 64, "clients that write while leases end")
)

const (
	// goneWithin is how long leasesOfTheGoal leases that are due at once may take, keys and all.
	goneWithin = 10 * time.Second
	// leasesOfTheGoal is the number from which on times and rates are compared.
	leasesOfTheGoal = 100_000
)

// TestLeasesThatAreDueAtOnceEndWhileWritesGoOn restarts a member, which gives every lease its full time again, so that all
// end at the same moment.
func TestLeasesThatAreDueAtOnceEndWhileWritesGoOn(t *testing.T) {
	if !program.ours {
		t.Skip("a bound of ours")
	}
	goal := *leasesFlag >= leasesOfTheGoal // otherwise no time is looked at
	if !goal {
		t.Parallel()
	}
	m := newMember(t)
	s := m.start(t)
	c := m.connect(t)
	ttl := int64(40 + *leasesFlag/2500)
	grantLeases(t, m, *leasesFlag, ttl)
	attachKeys(t, c, *leasesFlag)
	if got := countLeased(t, c); got != int64(*leasesFlag) {
		t.Fatalf("%d keys hang on leases, want %d: the machine is too slow for times to live of %d s", got, *leasesFlag, ttl)
	}
	s.Kill()
	m.start(t)
	due := time.Now().Add(time.Duration(ttl) * time.Second)
	c = m.connect(t)

	usual, rate, took := writeWhileLeasesEnd(t, c, int64(*leasesFlag), due)
	t.Logf("%d leases with a key each: gone after %v; puts of %d clients: %.0f/s before, %.0f/s meanwhile",
		*leasesFlag, took, *writersFlag, usual, rate)
	if most := goneWithin * time.Duration(*leasesFlag) / leasesOfTheGoal; goal && took > most {
		t.Errorf("the leases took %v to end, want %v at most", took, most)
	}
	if goal && rate < usual/2 {
		t.Errorf("%.0f puts a second meanwhile, before %.0f: want half at least", rate, usual)
	}
	all, err := c.Leases(t.Context())
	if noError(t, err); len(all.Leases) != 0 {
		t.Errorf("%d leases are left", len(all.Leases))
	}
}

// writeWhileLeasesEnd writes until the keys on leases, count of them, have gone, which are due at a time. It returns the puts a
// second before and meanwhile, and how long it took from the first that went to the last.
func writeWhileLeasesEnd(tb testing.TB, c *clientv3.Client, count int64, due time.Time) (usual, rate float64, took time.Duration) {
	tb.Helper()
	var puts atomic.Int64
	ctx, stop := context.WithCancel(tb.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for i := range *writersFlag {
		writers.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				if _, err := c.Put(ctx, loadKey(n%10_000), loadValue(n)); err == nil {
					puts.Add(1)
				}
			}
		})
	}
	usual = rateUntil(tb, &puts, due)
	begun, before := waitBelow(tb, c, count), puts.Load()
	took = waitBelow(tb, c, 1).Sub(begun)
	return usual, float64(puts.Load()-before) / took.Seconds(), took
}

// rateUntil returns the rate of puts from now, or some seconds before a time, until that time.
func rateUntil(t testing.TB, puts *atomic.Int64, end time.Time) float64 {
	t.Helper()
	const window = 5 * time.Second
	if wait := time.Until(end) - window; wait > 0 {
		<-time.After(wait)
	}
	begun, before := time.Now(), puts.Load()
	<-time.After(time.Until(end))
	return float64(puts.Load()-before) / time.Since(begun).Seconds()
}

// waitBelow waits until fewer than n keys hang on leases, and returns when it saw that.
func waitBelow(t testing.TB, c *clientv3.Client, n int64) time.Time {
	t.Helper()
	for ctx := within(t, process.Patience); ; {
		if countLeased(t, c) < n {
			return time.Now()
		}
		select {
		case <-ctx.Done():
			t.Fatalf("there are still %d keys", countLeased(t, c))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func countLeased(t testing.TB, c *clientv3.Client) int64 {
	t.Helper()
	answer, err := c.Get(t.Context(), "leased/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	noError(t, err)
	return answer.Count
}

// grantLeases grants the leases 1 to count from many clients.
func grantLeases(tb testing.TB, m *member, count int, ttl int64) {
	tb.Helper()
	grantFrom(tb, m, 1, count, ttl)
}

// grantFrom grants the leases from first to last from many clients.
func grantFrom(tb testing.TB, m *member, first, last int, ttl int64) {
	tb.Helper()
	const clients = 256
	var next atomic.Int64
	next.Store(int64(first) - 1)
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	for range 8 {
		leases := etcdserverpb.NewLeaseClient(m.connect(tb).ActiveConnection())
		for range clients / 8 {
			running.Go(func() {
				for id := next.Add(1); id <= int64(last) && failed.Load() == nil; id = next.Add(1) {
					if _, err := leases.LeaseGrant(tb.Context(), &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
						failed.Store(&err)
					}
				}
			})
		}
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		tb.Fatalf("granting leases: %v", *err)
	}
}

// attachKeys puts a key on each of the leases 1 to count.
func attachKeys(tb testing.TB, c *clientv3.Client, count int) {
	tb.Helper()
	const perTransaction = 100
	var running sync.WaitGroup
	var failed atomic.Pointer[error]
	var next atomic.Int64
	for range 16 {
		running.Go(func() {
			for failed.Load() == nil {
				first := int(next.Add(perTransaction)) - perTransaction + 1
				if first > count {
					return
				}
				var puts []clientv3.Op
				for id := first; id < first+perTransaction && id <= count; id++ {
					puts = append(puts, clientv3.OpPut(fmt.Sprintf("leased/%d", id), "v", clientv3.WithLease(clientv3.LeaseID(id))))
				}
				if _, err := c.Txn(tb.Context()).Then(puts...).Commit(); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	running.Wait()
	if err := failed.Load(); err != nil {
		tb.Fatalf("hanging keys on leases: %v", *err)
	}
}

func TestALeaseLastsWhileItsClientKeepsItAlive(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c := m.connect(t)
	ctx, forget := context.WithCancel(t.Context())
	defer forget()
	const ttl = 12 // renewed every third of it
	granted, err := c.Grant(ctx, ttl)
	noError(t, err)
	answers, err := c.KeepAlive(ctx, granted.ID)
	noError(t, err)
	_, err = c.Put(ctx, "k", "v", clientv3.WithLease(granted.ID))
	noError(t, err)
	events := c.Watch(t.Context(), "k")
	for range 5 { // beyond the time to live
		if r, ok := <-answers; !ok || r.TTL != ttl {
			t.Fatalf("keep-alive: %v", r)
		}
	}
	left, err := c.TimeToLive(t.Context(), granted.ID, clientv3.WithAttachedKeys())
	noError(t, err)
	if left.GrantedTTL != ttl || left.TTL < 1 || len(left.Keys) != 1 {
		t.Errorf("time to live: %+v", left)
	}
	forget()
	stopped := time.Now()
	select {
	case r := <-events:
		if took := time.Since(stopped); took < time.Second || len(r.Events) != 1 || r.Events[0].Type != clientv3.EventTypeDelete {
			t.Errorf("after %v: %+v", took, r)
		}
	case <-within(t, process.Patience).Done():
		t.Fatal("the key stays")
	}
}
