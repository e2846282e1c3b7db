package member

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

const (
	// comparisonEvery is how often members compare their chained hashes, comparisonTimeout how long one may take to answer.
	comparisonEvery   = time.Second
	comparisonTimeout = 2 * time.Second
	// comparisonPatience is how many comparisons a difference waits for members that may yet say who is right.
	comparisonPatience = 10
)

// comparison compares the chained hash with that of the other voters (docs/decisions/corruption.md). It finds out about this
// member alone: each looks after itself.
type comparison struct {
	m         *Member
	agreed    apply.Point // the last one that was compared with all voters
	undecided int         // comparisons in a row that found a difference and no majority
	told      bool        // that others differ
	unsure    atomic.Bool // there is a difference, and no majority: this state may be wrong
}

// heard is what a voter says.
type heard struct {
	id    cluster.ID
	urls  []string
	chain peer.Chain
	err   error
}

// verdict is what the voters' points at one index say of this member.
type verdict struct {
	// differ says that there is a difference at all.
	differ bool
	// wrong says that a majority of the voters has one hash and this member another; right that a majority has this member's.
	wrong, right bool
	// open says that voters which may decide it have not told their point.
	open bool
	// majority are the voters with the hash that most have, when that is a majority.
	majority []cluster.ID
}

// judge counts points at one index. own is this member's; it counts if it is a voter. A voter without a point has told none; one
// with another base or version cannot be compared, now or later.
func judge(self cluster.ID, own apply.Point, voters []cluster.ID, told map[cluster.ID]peer.Point, never map[cluster.ID]bool) verdict {
	var v verdict
	groups := map[uint64][]cluster.ID{}
	for _, id := range voters {
		p, ok := told[id]
		if id == self {
			p, ok = peer.Point(own), true
		}
		switch {
		case !ok:
			v.open = v.open || !never[id]
		case p.Base != own.Base || p.Index != own.Index:
		default:
			groups[p.Hash] = append(groups[p.Hash], id)
			v.differ = v.differ || p.Hash != own.Hash
		}
	}
	for hash, ids := range groups {
		if len(ids) >= len(voters)/2+1 {
			v.majority = ids
			v.right, v.wrong = hash == own.Hash, hash != own.Hash
		}
	}
	return v
}

// run compares until the member stops, or is to be replaced by its rebuilt self.
func (c *comparison) run() {
	m := c.m
	if m.others == nil || !m.waitReplayed(m.maintenance.ctx) {
		return
	}
	for {
		wait, over := c.turn(m.maintenance.ctx)
		if over {
			return
		}
		timer := m.cfg.Clock.NewTimer(wait)
		select {
		case <-timer.C():
		case <-m.stop:
			timer.Stop()
			return
		}
	}
}

// turn compares once, or takes the next step of a rebuild. It returns how long to wait before the next turn, and whether none
// follows: the state is rebuilt.
func (c *comparison) turn(ctx context.Context) (wait time.Duration, over bool) {
	r := &c.m.rebuild
	if !r.pending() { // or a snapshot has replaced the wrong state
		c.m.durable.hold.Store(false)
		c.step(ctx)
	}
	if !r.pending() {
		return comparisonEvery, false
	}
	c.m.durable.hold.Store(true)
	return r.step(ctx)
}

// CompareStep is a turn of the loop that compares this member's state with the others' and rebuilds it, for the simulator.
func (m *Member) CompareStep() {
	select {
	case <-m.rebuild.built:
	default:
		m.comparison.turn(m.maintenance.ctx)
	}
}

// step compares once.
func (c *comparison) step(ctx context.Context) {
	m := c.m
	g := m.gen.Load()
	chain := g.chain
	newest := chain.Newest()
	if newest == c.agreed && !m.rebuild.marked() {
		return // nothing was applied since
	}
	all := c.ask(ctx, newest.Index)
	at, differ := c.difference(chain, all)
	if !differ {
		c.undecided, c.told = 0, false
		c.unsure.Store(false)
		c.settle(ctx, chain, all, newest)
		return
	}
	own, ok := chain.At(at)
	if !ok {
		return // it was forgotten meanwhile
	}
	v := c.vote(own, c.ask(ctx, at))
	if v.differ && chain == m.Chain() { // and no snapshot has replaced the state meanwhile
		c.conclude(g, own, v)
	}
}

// conclude does what follows from a vote on an entry after which states differ.
func (c *comparison) conclude(g *generation, own apply.Point, v verdict) {
	m := c.m
	switch {
	case v.wrong:
		m.rebuild.distrust() // before a word is said about it
		m.cfg.Logger.Error("this member's state differs from the majority's", "index", own.Index, "base", own.Base, "hash", own.Hash,
			"majority", texts(v.majority))
		m.rebuild.begin(g.number)
		return
	case v.right:
		if !c.told {
			m.cfg.Logger.Error("other members' states differ from the majority's, which has this member's", "index", own.Index,
				"base", own.Base, "hash", own.Hash, "majority", texts(v.majority))
		}
		c.told, c.undecided = true, 0
		c.unsure.Store(false)
		return
	}
	c.unsure.Store(true)
	c.undecided++
	if v.open && c.undecided < comparisonPatience || m.Alarms().Active(cluster.AlarmCorrupt) {
		return
	}
	m.cfg.Logger.Error("members' states differ, and no majority agrees: it is not known which ones are corrupt",
		"index", own.Index, "base", own.Base, "hash", own.Hash)
	if err := m.beginCorrupt(0); err != nil { // it comes again while there is no alarm
		m.cfg.Logger.Warn("cannot raise the alarm", "alarm", cluster.AlarmCorrupt.String(), "error", err)
	}
}

// ask asks all other voters for their points after an entry.
func (c *comparison) ask(ctx context.Context, index uint64) []heard {
	var all []heard
	for _, x := range c.m.Members().Voters() {
		if x.ID != c.m.self() {
			all = append(all, heard{id: x.ID, urls: x.PeerURLs})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, comparisonTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			x := &all[i]
			x.chain, x.err = c.m.others.Chain(ctx, x.urls, index)
		})
	}
	wg.Wait()
	return all
}

// comparable says whether a voter's points can be compared at all.
func (h *heard) comparable() bool { return h.err == nil && h.chain.Version == apply.ChainVersion }

// difference returns the largest index at which a voter has another hash.
func (c *comparison) difference(chain *apply.Chain, all []heard) (index uint64, differ bool) {
	for i := range all {
		if !all[i].comparable() {
			continue
		}
		for _, p := range []*peer.Point{all[i].chain.Point, all[i].chain.Ended} {
			if p == nil {
				continue
			}
			own, ok := chain.At(p.Index)
			if ok && own.Base == p.Base && own.Hash != p.Hash {
				index, differ = max(index, p.Index), true
			}
		}
	}
	return index, differ
}

// vote judges the answers to a question for the point own.
func (c *comparison) vote(own apply.Point, all []heard) verdict {
	told, never := map[cluster.ID]peer.Point{}, map[cluster.ID]bool{}
	for _, x := range all {
		switch {
		case x.err == nil && x.chain.Version == apply.ChainVersion && x.chain.Point != nil && x.chain.Point.Index == own.Index:
			told[x.id] = *x.chain.Point
		case x.err == nil && x.chain.Version != apply.ChainVersion, isRefusal(x.err):
			never[x.id] = true
		}
	}
	var voters []cluster.ID
	for _, x := range c.m.Members().Voters() {
		voters = append(voters, x.ID)
	}
	return judge(c.m.self(), own, voters, told, never)
}

// settle notes that nothing differs. A member that was rebuilt is trusted again once a majority has its hash.
func (c *comparison) settle(ctx context.Context, chain *apply.Chain, all []heard, newest apply.Point) {
	low, everyone := newest, true
	for i := range all {
		p := all[i].chain.Point
		if !all[i].comparable() || p == nil || p.Base != newest.Base || p.Index != newest.Index {
			everyone = false
		}
		if all[i].comparable() && p != nil && p.Index < low.Index {
			if own, ok := chain.At(p.Index); ok {
				low = own
			}
		}
	}
	if everyone {
		c.agreed = newest
	}
	if c.m.rebuild.marked() && c.vote(low, c.ask(ctx, low.Index)).right && chain == c.m.Chain() {
		c.m.rebuild.done()
	}
}

// isRefusal tells an answer that is no success: members of etcd do not know the question.
func isRefusal(err error) bool {
	var r *peer.Refusal
	return errors.As(err, &r)
}

// texts are ids as they are written.
func texts(ids []cluster.ID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, id.String())
	}
	return out
}

// Chain returns the chained hash of the present state.
func (m *Member) Chain() *apply.Chain { return m.gen.Load().chain }

// answerChain tells other members the point after an entry.
func (m *Member) answerChain(index uint64) peer.Chain {
	chain := m.gen.Load().chain
	out := peer.Chain{Version: apply.ChainVersion}
	if p, ok := chain.At(min(index, chain.Newest().Index)); ok {
		out.Point = (*peer.Point)(&p)
	}
	if p, ok := chain.EndOfEpoch(); ok {
		out.Ended = (*peer.Point)(&p)
	}
	return out
}
