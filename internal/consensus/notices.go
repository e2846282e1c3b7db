package consensus

import (
	"cmp"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	rafttracker "go.etcd.io/raft/v3/tracker"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// noticeWait bounds how long the news of a commit waits for entries to go with.
const noticeWait = 3 * time.Millisecond

// notices holds back appends that tell a follower of a commit index and of nothing else: while puts come one after another the
// next one's append tells it as well, and each notice costs a message, its answer, and a wake-up of each of both members' loops
// just when the client's next request is due.
//
// A notice is held only while
//
//  1. entries come at intervals of at most noticeWait, so that more are likely to follow in time;
//  2. the follower has nobody waiting for it, as far as the leader knows: no proposal that it passed on and no read that it was
//     answered is news in it;
//  3. no configuration change is news in it, nor anything from before this leader's term: who is removed should hear of it.
//
// It goes after noticeWait, or at a tick, at the latest; what tells as much before is sent in its place. Whoever loses one, as on
// a network, hears of it by the next heartbeat. Raft loop only, but for the timer.
type notices struct {
	n     *Node
	timer clock.Timer // nil until the first notice is held; at the turn after it has fired armed is false

	term   uint64
	others map[uint64]*noticed // by member
	held   int                 // how many of them have a notice held
	since  time.Time           // when the first of those was
	armed  bool                // the timer is going to fire
	all    uint64              // everybody is to hear of a commit up to this index at once

	appended time.Time     // when the last entries were sent
	gap      time.Duration // between them and those before
}

// noticed is what a leader knows of what a follower was told.
type noticed struct {
	told    uint64 // the commit index last sent
	awaited uint64 // an index that somebody there waits for
	expects bool   // it waits for the next entry that this member appends
	held    *raftpb.Message
}

// of returns what is known of a member in this term.
func (x *notices) of(id uint64) *noticed {
	o := x.others[id]
	if o == nil {
		o = &noticed{}
		x.others[id] = o
	}
	return o
}

// begin forgets what was held in a term before. REQUIRES: this member leads in term.
func (x *notices) begin(term uint64) {
	if x.term != term {
		*x = notices{n: x.n, timer: x.timer, armed: x.armed, term: term, others: make(map[uint64]*noticed)}
		x.all = math.MaxUint64 // until the entry is known with which the term begins
	}
}

// await notes that somebody at a member waits for index. What is held for it goes at once. REQUIRES: this member leads.
func (x *notices) await(id, index uint64) {
	x.begin(x.n.leadsNow())
	o := x.of(id)
	o.awaited = max(o.awaited, index)
	if m := o.held; m != nil && o.told < o.awaited {
		x.tells(m)
		x.n.cfg.Send([]*raftpb.Message{m})
	}
}

// expect notes that a member has passed on what raft appends next. REQUIRES: this member leads.
func (x *notices) expect(id uint64) {
	x.begin(x.n.leadsNow())
	x.of(id).expects = true
}

// entered notes the entries that are appended to this member's log.
func (x *notices) entered(es []*raftpb.Entry) {
	if len(es) == 0 {
		return
	}
	term := x.n.leadsNow()
	if term == 0 {
		return
	}
	x.begin(term)
	for _, e := range es {
		if x.all == math.MaxUint64 && e.GetTerm() == term {
			x.all = e.GetIndex()
		}
		if e.GetType() != raftpb.EntryNormal {
			x.all = max(x.all, e.GetIndex())
		}
	}
	for _, o := range x.others {
		if o.expects {
			o.awaited, o.expects = es[len(es)-1].GetIndex(), false
		}
	}
}

// pass returns those of the messages that are to be sent now. It may use ms for that.
func (x *notices) pass(ms []*raftpb.Message) []*raftpb.Message {
	if len(ms) == 0 {
		return nil
	}
	term := x.n.leadsNow()
	if term == 0 {
		x.drop()
		return ms
	}
	x.begin(term)
	x.measure(ms)
	out := ms[:0]
	for _, m := range ms {
		if x.holds(m) {
			continue
		}
		x.tells(m)
		out = append(out, m)
	}
	x.arm()
	return out
}

// measure notes the times at which entries are sent.
func (x *notices) measure(ms []*raftpb.Message) {
	for _, m := range ms {
		if m.GetType() == raftpb.MsgApp && len(m.GetEntries()) > 0 {
			now := x.n.cfg.Clock.Now()
			x.gap, x.appended = now.Sub(x.appended), now
			return
		}
	}
}

// holds says whether m waits from now on.
func (x *notices) holds(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp || len(m.GetEntries()) > 0 || x.gap > noticeWait {
		return false
	}
	o := x.of(m.GetTo())
	commit := m.GetCommit()
	if commit <= o.told || o.told < o.awaited || o.told < x.all || !x.replicating(m.GetTo()) {
		return false
	}
	if o.held == nil {
		if x.held++; x.held == 1 {
			x.since = x.n.cfg.Clock.Now()
		}
	}
	o.held = m
	return true
}

// replicating says whether a member is sent entries as they come: to another one an append without entries is a question.
func (x *notices) replicating(id uint64) (yes bool) {
	x.n.rn.WithProgress(func(other uint64, _ raft.ProgressType, p tracker) {
		yes = yes || other == id && p.State == rafttracker.StateReplicate
	})
	return yes
}

// tells notes what a member learns from a message that is sent.
func (x *notices) tells(m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		o := x.of(m.GetTo())
		o.told = max(o.told, m.GetCommit())
		if o.held != nil && o.held.GetCommit() <= o.told {
			o.held = nil
			x.held--
		}
	case raftpb.MsgReadIndexResp:
		x.await(m.GetTo(), m.GetIndex())
	}
}

// arm lets the loop look after what is held in time. A timer that is set often would wake a thread each time, so one that
// is going to fire stays as it is.
func (x *notices) arm() {
	if x.held == 0 || x.armed || !x.n.started.Load() {
		return
	}
	x.armed = true
	wait := max(0, noticeWait-x.n.cfg.Clock.Now().Sub(x.since))
	if x.timer == nil {
		x.timer = x.n.cfg.Clock.AfterFunc(wait, func() {
			x.n.call(func(*raft.RawNode) { x.armed = false })
		})
		return
	}
	x.timer.Reset(wait)
}

// due sends what has been held for long enough, or all, at the end of a turn.
func (x *notices) due(all bool) {
	switch {
	case x.held == 0 || x.armed && !all:
	case x.n.leadsNow() != x.term:
		x.drop()
	case all || x.n.cfg.Clock.Now().Sub(x.since) >= noticeWait:
		x.send()
	default:
		x.arm()
	}
}

func (x *notices) send() {
	var ms []*raftpb.Message
	for _, o := range x.others {
		if o.held != nil {
			o.told = max(o.told, o.held.GetCommit())
			ms = append(ms, o.held)
		}
	}
	x.drop()
	slices.SortFunc(ms, func(a, b *raftpb.Message) int { return cmp.Compare(a.GetTo(), b.GetTo()) })
	x.n.cfg.Send(ms)
}

// drop forgets what is held.
func (x *notices) drop() {
	if x.held == 0 {
		return
	}
	for _, o := range x.others {
		o.held = nil
	}
	x.held = 0
}

// close ends the timer. REQUIRES: the raft loop has ended.
func (x *notices) close() {
	if x.timer != nil {
		x.timer.Stop()
	}
}
