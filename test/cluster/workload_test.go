package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// workload is clients that work all the time while something is done to the cluster: on registers, with leases, and watching.
// All that they did and were told is recorded, and checked at the end.
type workload struct {
	*pulse
	prefix  string
	history *history
	leases  *tenancies
	past    *past
	values  atomic.Int64 // written so far

	watchers []*watcher
	from     int64 // the revision that the watchers begin at

	working     context.Context    // of clients and tenants
	cancel      context.CancelFunc // of that
	cancelWatch context.CancelFunc
	wg, watch   sync.WaitGroup
}

// A workload's clients. The groups that they work on change all the time: the search for an order of a group's operations
// takes long when there are many.
const (
	workloadClients = 6
	workloadTenants = 2
	valuesPerGroup  = 100
)

// workloads counts them; each has keys of its own.
var workloads atomic.Int64

// newWorkload begins with the members there are now, drawing from seed.
func (c *cluster) newWorkload(seed uint64) *workload {
	c.Helper()
	return c.newWorkloadWith(seed, workloadTenants)
}

// newWorkloadWith is newWorkload with another number of tenants.
func (c *cluster) newWorkloadWith(seed uint64, tenants int) *workload {
	c.Helper()
	w := &workload{
		pulse: c.newPulse(), prefix: fmt.Sprintf("w%d/", workloads.Add(1)),
		history: &history{began: time.Now()}, leases: newTenancies(), past: newPast(),
	}
	for n := 0; w.from == 0; n++ { // a key that comes again would have something before it
		resp, err := c.client(c.leader()).Put(c.within(), fmt.Sprintf("%sbegin/%d", w.prefix, n), "")
		switch {
		case err == nil:
			w.from = resp.Header.Revision
		case !passes(err):
			c.Fatal(err)
		}
	}
	var watching context.Context
	w.working, w.cancel = context.WithCancel(context.Background())
	watching, w.cancelWatch = context.WithCancel(context.Background())
	c.Cleanup(func() { w.cancel(); w.cancelWatch(); w.wg.Wait(); w.watch.Wait() })
	for i := range workloadClients {
		x := &client{workload: w, number: i, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		w.wg.Go(func() { x.run(w.working) })
	}
	for i := range tenants {
		x := &tenant{workload: w, number: i, turn: i, rng: rand.New(rand.NewPCG(seed, uint64(1000+i)))}
		w.wg.Go(func() { x.run(w.working) })
	}
	for i := range len(c.members) + 1 {
		w.watchers = append(w.watchers, w.newWatcher(fmt.Sprintf("watcher %d", i), i, i == len(c.members)))
	}
	for _, x := range w.watchers {
		w.watch.Go(func() { x.run(watching) })
	}
	return w
}

// newWatcher returns one that begins where the workload did.
func (w *workload) newWatcher(name string, turn int, roams bool) *watcher {
	t := newTimeline()
	t.forgotten = w.past.wasAsked
	return &watcher{workload: w, name: name, turn: turn, roams: roams, timeline: t, next: w.from}
}

// newestGroup is the first of the two groups that clients work on now.
func (w *workload) newestGroup() int { return 2 * int(w.values.Load()/valuesPerGroup) }

// key names a register.
func (w *workload) key(group, key int) string {
	return fmt.Sprintf("%sregister/%d/%d", w.prefix, group, key)
}

// gone takes a watcher's word that a key is gone.
func (w *workload) gone(key string, at time.Duration) { w.leases.gone(key, at) }

func registerOf(kv *mvccpb.KeyValue) register {
	return register{value: string(kv.Value), version: kv.Version, mod: kv.ModRevision}
}

// end ends the workload and checks everything. It returns the last revision that it checked.
func (w *workload) end(c *cluster) (last int64) {
	c.Helper()
	w.cancel()
	w.wg.Wait()
	c.eventually("all leases of the workload end", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		defer cancel()
		resp, err := c.client(c.leader()).Get(ctx, w.prefix+"lease/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && resp.Count == 0
	})
	last = c.put(c.leader(), w.prefix+"end", "").Header.Revision
	for _, x := range w.watchers {
		c.eventually(x.name+" is told of the end", func() bool { return x.seen(last) })
	}
	w.cancelWatch()
	w.watch.Wait()
	final := w.checkWatchers(c, last)
	w.checkHistory(c, final)
	c.checkEqual()
	return last
}

// checkWatchers compares what the watchers were told with what each member tells afterwards, and returns that.
func (w *workload) checkWatchers(c *cluster, last int64) *timeline {
	c.Helper()
	var final *timeline
	for _, m := range c.members {
		x := w.newWatcher("a watcher afterwards at "+m.name, 0, false)
		x.only = m.client
		c.get(m, "x") // it has applied what was compacted
		refused := w.past.refused
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { x.run(ctx) })
		c.eventually(x.name+" is told of everything", func() bool { return x.seen(last) })
		cancel()
		wg.Wait()
		if done, _ := w.past.compacted(); done > w.from && w.past.refused == refused {
			c.Errorf("%s is told of everything from %d on, which was compacted to %d", x.name, w.from, done)
		}
		if final == nil {
			final = x.timeline
		} else if d := x.timeline.difference(final); d != "" {
			c.Errorf("%s: %s", x.name, d)
		}
	}
	for _, x := range w.watchers {
		if d := x.timeline.difference(final); d != "" {
			c.Errorf("%s: %s", x.name, d)
		}
	}
	return final
}

// searchTime bounds the search for an order of one group's operations.
const searchTime = 20 * time.Second

// checkHistory checks what the clients were told.
func (w *workload) checkHistory(c *cluster, final *timeline) {
	c.Helper()
	report := func(wrong []string) {
		c.Helper()
		for _, x := range wrong[:min(len(wrong), 5)] {
			c.Error(x)
		}
	}
	report(w.history.checkRevisions())
	report(w.history.checkAgainst(final, w.key))
	report(w.history.checkSent(final, w.prefix+"register/"))
	report(w.leases.early())
	report(w.past.checkAgainst(final))
	report(w.history.checkSpace(final.values()))
	groups := w.history.groups(final.values())
	wrong, undecided := checkLinearizable(groups, searchTime)
	for _, g := range wrong {
		c.Errorf("group %d is not linearizable:", g)
		for _, o := range groups[g] {
			c.Logf("  client %d [%v, %v] %+v -> %+v", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
		}
	}
	t := tally{ops: len(w.history.ops), unknown: int(w.failed.Load()), groups: len(groups), undecided: len(undecided),
		events: len(final.events), renewals: w.leases.kept, leases: len(w.leases.until),
		compactions: len(w.past.asked), glimpses: len(w.past.glimpses), refused: w.past.refused, reads: w.past.reads,
		hashes: w.past.hashes, tight: len(w.history.tights), noSpace: len(w.history.refused)}
	for _, x := range w.watchers {
		t.breaks += x.breaks
		t.marks += x.marks
	}
	c.Logf("%+v", t)
	if t.events == 0 || t.ops == t.unknown {
		c.Error("nothing was done")
	}
	total.add(t)
}
