package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// past is what was to be forgotten while a workload ran, and what was seen of what was before.
type past struct {
	mu       sync.Mutex
	asked    map[int64]bool // every revision that a compaction was asked to, answered or not
	highest  int64          // of these
	done     int64          // the highest of those that were answered
	glimpses []glimpse
	refused  int // watches that were told of a compaction
	reads    int
	hashes   int // of snapshots that were compared with those of members
}

// glimpse is what a watch of the past was told.
type glimpse struct {
	endpoint string
	from, to int64
	events   []event
}

func newPast() *past { return &past{asked: map[int64]bool{}} }

// ask notes that a compaction is asked for.
func (p *past) ask(revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked[revision] = true
	p.highest = max(p.highest, revision)
}

// answered notes that a compaction was answered.
func (p *past) answered(revision int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = max(p.done, revision)
}

// compacted returns to what was compacted at least, and at most.
func (p *past) compacted() (done, asked int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done, p.highest
}

// wasAsked says whether a compaction to just this revision was asked for. What a key was before a change at it may be forgotten.
func (p *past) wasAsked(revision int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[revision]
}

// refuse takes that a watch from a revision was told of a compaction. It says what about it cannot be.
func (p *past) refuse(from, compacted int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused++
	switch {
	case !p.asked[compacted]:
		return fmt.Errorf("a watch from %d is told of a compaction to %d, which nobody asked for", from, compacted)
	case from >= compacted:
		return fmt.Errorf("a watch from %d is told of a compaction to %d, which took nothing from it", from, compacted)
	}
	return nil
}

// compared counts the comparison of a hash.
func (p *past) compared() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hashes++
}

// saw keeps what a watch of the past was told.
func (p *past) saw(g glimpse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.glimpses = append(p.glimpses, g)
}

// checkAgainst compares what watches of the past were told with the final history.
func (p *past) checkAgainst(final *timeline) (wrong []string) {
	for _, g := range p.glimpses {
		if want := final.between(g.from, g.to); !slices.Equal(g.events, want) {
			wrong = append(wrong, fmt.Sprintf("a watch at %s was told %+v from %d to %d, where %+v was", g.endpoint, g.events, g.from, g.to, want))
		}
	}
	return wrong
}

// keeper compacts history now and then, up to what a watcher has seen, and looks at what is left of it: by reads at a revision, and by watches from
// one, which are told all that was since, or that it is compacted.
type keeper struct {
	*workload
	rng  *rand.Rand
	turn int
}

// keep has history compacted from now on, drawing from seed.
func (w *workload) keep(seed uint64) {
	for i := range workloadKeepers {
		k := &keeper{workload: w, turn: i, rng: rand.New(rand.NewPCG(seed, uint64(2000+i)))}
		w.wg.Go(func() { k.run(w.working) })
	}
}

// compactEvery is one in how many turns of a keeper compacts.
const (
	workloadKeepers = 2
	compactEvery    = 6
)

// run works until ctx ends, at another member each time.
func (k *keeper) run(ctx context.Context) {
	for ; ctx.Err() == nil; rest(ctx) {
		k.turn++
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{k.endpoint(k.turn)}, Context: ctx})
		if err != nil {
			k.tb.Error(err)
			return
		}
		k.step(ctx, cl)
		cl.Close()
	}
}

func (k *keeper) step(ctx context.Context, cl *clientv3.Client) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	seen := k.newest()
	done, _ := k.past.compacted()
	done = max(done, k.from)
	if seen <= done {
		return
	}
	from := done // the first that is whole
	if k.rng.IntN(2) == 0 {
		from = max(k.from, done-10) + k.rng.Int64N(seen-done)
	}
	switch n := k.rng.IntN(compactEvery); {
	case n == 0:
		k.compact(ctx, cl, done+1+k.rng.Int64N(seen-done))
	case n%2 == 0:
		k.read(ctx, cl, from)
	default:
		k.look(ctx, cl, from, seen)
	}
}

// compact compacts to a revision that a watcher has seen, so that what the others are not told of is known.
func (w *workload) compact(ctx context.Context, cl *clientv3.Client, revision int64, options ...clientv3.CompactOption) {
	w.past.ask(revision)
	_, err := cl.Compact(ctx, revision, options...)
	switch {
	case err == nil, errors.Is(err, rpctypes.ErrCompacted): // by an attempt that was not answered
		w.past.answered(revision)
	case errors.Is(err, rpctypes.ErrFutureRev):
		w.tb.Errorf("a compaction to %d, which a watcher has seen, is refused: %v", revision, err)
	}
}

// read reads all keys at a revision.
func (k *keeper) read(ctx context.Context, cl *clientv3.Client, revision int64) {
	done, _ := k.past.compacted()
	resp, err := cl.Get(ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision))
	_, asked := k.past.compacted()
	switch {
	case errors.Is(err, rpctypes.ErrFutureRev), errors.Is(err, rpctypes.ErrCompacted) && revision >= asked:
		k.tb.Errorf("a read at revision %d, which was seen, where a compaction was asked for to %d at most: %v", revision, asked, err)
	case err == nil && revision < done:
		k.tb.Errorf("a read at revision %d is answered although history was compacted to %d before", revision, done)
	case err == nil:
		if d := k.differs(resp.Kvs, revision); d != "" {
			k.tb.Errorf("a read at revision %d by member %x: %s", revision, resp.Header.MemberId, d)
		}
		k.past.mu.Lock()
		k.past.reads++
		k.past.mu.Unlock()
	}
}

// look watches from a revision on until all up to another one has been told.
func (k *keeper) look(ctx context.Context, cl *clientv3.Client, from, to int64) {
	g := glimpse{endpoint: cl.Endpoints()[0], from: from, to: to}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch := cl.Watch(ctx, k.prefix, clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithPrevKV(), clientv3.WithFragment())
	for resp := range watch {
		if resp.CompactRevision > 0 {
			if err := k.past.refuse(from, resp.CompactRevision); err != nil {
				k.tb.Errorf("%s: %v", g.endpoint, err)
			}
		}
		if err := resp.Err(); err != nil { // what was told until then a watcher that goes on sees, too
			if resp.CompactRevision == 0 && ctx.Err() == nil && !passes(err) {
				k.tb.Errorf("%s: a watch from %d ended: %v", g.endpoint, from, err)
			}
			return
		}
		for _, e := range resp.Events {
			if e.Kv.ModRevision > to {
				k.past.saw(g)
				return
			}
			g.events = append(g.events, eventOf(e))
		}
	}
}

// newest is the highest revision that a watcher has been told of, with all before.
func (w *workload) newest() (revision int64) {
	for _, x := range w.watchers {
		x.mu.Lock()
		revision = max(revision, x.next-1)
		x.mu.Unlock()
	}
	return revision
}

// told returns what was between two revisions, and what the keys were at the second one, as the first watcher has it that knows; nil when none does.
func (w *workload) told(from, to int64, but *watcher) *timeline {
	for _, x := range w.watchers {
		if x == but || !x.seen(to) {
			continue
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		t := newTimeline()
		t.adopt(x.timeline.between(from, to))
		return t
	}
	return nil
}

// differs compares all keys of the workload, as they are said to be at a revision, with what the watchers were told; empty when that is the same.
func (w *workload) differs(kvs []*mvccpb.KeyValue, revision int64) string {
	t := w.told(w.from, revision, nil)
	if t == nil {
		return fmt.Sprintf("no watcher knows %d any more", revision)
	}
	found := map[string]bool{}
	for _, kv := range kvs {
		key := string(kv.Key)
		if found[key] = true; kv.ModRevision < w.from {
			continue // an attempt to begin that was not answered
		}
		if is, was := registerOf(kv), t.at(key, revision); is != was {
			return fmt.Sprintf("%s is %+v, and was %+v", key, is, was)
		}
	}
	for key := range t.byKey {
		if was := t.at(key, revision); was != (register{}) && !found[key] {
			return fmt.Sprintf("%s is not there, and was %+v", key, was)
		}
	}
	return ""
}

// TestHistoryIsCompactedBesideFailures: watchers and readers of the past get all of it, or are told that it is compacted, while members come and go.
func TestHistoryIsCompactedBesideFailures(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	w := c.newWorkload(1)
	w.keep(1)
	w.progress(c, 300)
	old := c.leader()
	old.kill(t)
	w.progress(c, 100)
	old.start(t)
	c.network.isolate(c.members, old, true, true)
	w.progress(c, 300)
	c.network.heal()
	c.follows(old)
	w.progress(c, 100)
	w.end(c)
	if w.past.done == 0 || w.past.reads == 0 || len(w.past.glimpses) == 0 {
		t.Errorf("compacted to %d; %d reads and %d watches of the past", w.past.done, w.past.reads, len(w.past.glimpses))
	}
}

func TestWhatCannotBeOfThePastIsFound(t *testing.T) {
	t.Parallel()
	p := newPast()
	p.ask(5)
	p.answered(5)
	p.ask(7)
	for name, c := range map[string]struct {
		from, compacted int64
		says            string
	}{
		"below it":                 {4, 5, ""},
		"below one not answered":   {5, 7, ""},
		"at it":                    {5, 5, "took nothing"},
		"of another revision":      {4, 6, "nobody asked"},
		"of one above all of them": {4, 8, "nobody asked"},
	} {
		if err := p.refuse(c.from, c.compacted); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	line := newTimeline()
	line.forgotten = p.wasAsked
	for _, x := range []*clientv3.Event{change(kv("a", 5, 5, 1), nil), change(kv("b", 5, 7, 2), nil)} {
		if err := line.add(x); err != nil {
			t.Errorf("what was before it is forgotten: %v", err)
		}
	}
	if line.add(change(kv("c", 5, 8, 3), nil)) == nil {
		t.Error("an event lacks what was before it, and nobody has forgotten that")
	}
	all := line.between(5, 7)
	for name, c := range map[string]struct {
		seen glimpse
		ok   bool
	}{
		"all of it":       {glimpse{from: 5, to: 7, events: all}, true},
		"the end":         {glimpse{from: 6, to: 7, events: all[1:]}, true},
		"the first of it": {glimpse{from: 5, to: 7, events: all[:1]}, false},
		"an event twice":  {glimpse{from: 5, to: 7, events: append(all[:1:1], all...)}, false},
	} {
		if wrong := (&past{glimpses: []glimpse{c.seen}}).checkAgainst(line); len(wrong) == 0 != c.ok {
			t.Errorf("%s: %v", name, wrong)
		}
	}
	w := &workload{from: 5}
	w.watchers = []*watcher{{workload: w, timeline: line, next: 8}}
	for name, c := range map[string]struct {
		revision int64
		found    []*mvccpb.KeyValue
		ok       bool
	}{
		"as it was":     {7, []*mvccpb.KeyValue{kv("b", 5, 7, 2)}, true},
		"as it is now":  {6, []*mvccpb.KeyValue{kv("b", 5, 7, 2)}, false},
		"not there":     {6, nil, false},
		"one too many":  {4, []*mvccpb.KeyValue{kv("a", 5, 5, 1)}, false},
		"before it was": {4, nil, true},
	} {
		if d := w.differs(c.found, c.revision); (d == "") != c.ok {
			t.Errorf("%s: %s", name, d)
		}
	}
}
