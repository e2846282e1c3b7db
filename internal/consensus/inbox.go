package consensus

import (
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// Proposal is an entry that a member wants committed.
type Proposal struct {
	// Data is the entry's payload. The node owns it from Propose on, and forgets it once raft has it, but for a change of the configuration,
	// which it may have to propose again.
	Data []byte
	// ConfChange marks Data as an encoded raftpb.ConfChange.
	ConfChange bool
	// Urgent proposals go into the log before all others that wait, and are refused only above a bound of their own
	// (urgentMax), never because clients have sent too much: what keeps the cluster in order, as the end of leases, must not
	// wait for those who overload it. The proposer bounds how many are under way.
	Urgent bool
	// LeaderTerm, when not 0, lets the proposal into the log only as that of the leader in that term; otherwise it fails. A
	// follower passes all others on to whoever leads.
	LeaderTerm uint64
	// MayTurn says that the proposer holds no lock and waits for the result: Propose may then do a turn of the raft loop's work
	// before it returns.
	MayTurn bool
	// Fail is called, from any goroutine and at most once, when the node gives the
	// proposal up. That it is never called does not say that the entry committed.
	Fail func(error)
	// Cancelled says, when set, that nobody waits any more; a proposal that raft
	// has not taken yet is then thrown away.
	Cancelled func() bool

	passedOn bool   // by a follower, who alone knows who waits for it
	from     uint64 // the follower
}

func (p *Proposal) fail(err error) {
	if p.Fail != nil {
		p.Fail(err)
	}
}

// inbox holds what waits for the raft loop. mu guards every field but wake and is
// held for a few instructions only.
type inbox struct {
	mu        sync.Mutex
	urgent    []*Proposal
	proposals []*Proposal
	bytes     int // in proposals, not in urgent
	messages  []*raftpb.Message
	responses []*raftpb.Message // from the append and apply loops, in their order
	calls     []func(*raft.RawNode)
	ticks     int
	gathering *ReadBatch // reads that no ReadIndex was sent for yet

	wake chan struct{} // capacity 1: set when anything may wait
}

func (b *inbox) init() { b.wake = make(chan struct{}, 1) }

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// letters is one turn's catch.
type letters struct {
	urgent    []*Proposal
	proposals []*Proposal
	messages  []*raftpb.Message
	responses []*raftpb.Message
	calls     []func(*raft.RawNode)
	ticks     int
}

func (l *letters) empty() bool {
	return len(l.urgent) == 0 && len(l.proposals) == 0 && len(l.messages) == 0 && len(l.responses) == 0 &&
		len(l.calls) == 0 && l.ticks == 0
}

// take empties the inbox. Proposals are left in it when withProposals is false.
func (b *inbox) take(withProposals bool) letters {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := letters{messages: b.messages, responses: b.responses, calls: b.calls, ticks: b.ticks}
	b.messages, b.responses, b.calls, b.ticks = nil, nil, nil, 0
	if withProposals {
		l.urgent, l.proposals = b.urgent, b.proposals
		b.urgent, b.proposals, b.bytes = nil, nil, 0
	}
	return l
}

// heavy says whether so much waits that the log and the followers should have some of it, whatever they are doing.
func (b *inbox) heavy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heavyLocked()
}

func (b *inbox) heavyLocked() bool {
	return b.bytes >= gatherBytesMax || len(b.proposals)+len(b.urgent) >= gatherMax
}

// passOn queues the entries that a follower passes on, as much as there is room for.
func (b *inbox) passOn(from uint64, entries []*raftpb.Entry) {
	ps := make([]Proposal, len(entries))
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range entries {
		ps[i] = Proposal{Data: e.GetData(), ConfChange: e.GetType() == raftpb.EntryConfChange, passedOn: true, from: from}
		b.putLocked(&ps[i])
	}
}

// dropPassedOn forgets what followers passed on: there is no leader any more, and nobody knows for how long they wait.
func (b *inbox) dropPassedOn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := b.proposals[:0]
	for _, p := range b.proposals {
		if p.passedOn {
			b.bytes -= len(p.Data)
		} else {
			kept = append(kept, p)
		}
	}
	clear(b.proposals[len(kept):])
	b.proposals = kept
}

// putBack puts what was taken before back in front, but for what followers passed on: there is no leader any more. It has been
// counted before, so there is room for it.
func (b *inbox) putBack(ps []*Proposal) {
	var urgent, proposals []*Proposal
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ps {
		switch {
		case p.passedOn:
		case p.Urgent:
			urgent = append(urgent, p)
		default:
			proposals = append(proposals, p)
			b.bytes += len(p.Data)
		}
	}
	b.urgent, b.proposals = append(urgent, b.urgent...), append(proposals, b.proposals...)
}

func (b *inbox) respond(rs []*raftpb.Message) {
	b.mu.Lock()
	b.responses = append(b.responses, rs...)
	b.mu.Unlock()
}

// Propose queues a proposal for the raft loop. It does not wait. The error is
// ErrTooManyRequests when the queue or the apply loop is too far behind, or
// ErrStopped; then Fail is not called.
func (n *Node) Propose(p *Proposal) error {
	if !p.Urgent && n.committed.Load() > n.applied.Load()+unappliedMax {
		return ErrTooManyRequests
	}
	b := &n.inbox
	b.mu.Lock()
	if n.stopping() {
		b.mu.Unlock()
		return ErrStopped
	}
	ok := b.putLocked(p)
	heavy := b.heavyLocked()
	b.mu.Unlock()
	if !ok {
		return ErrTooManyRequests
	}
	switch {
	case !heavy && n.gathering():
	case p.MayTurn:
		n.hurry()
	default:
		b.signal()
	}
	return nil
}

// gathering says whether proposals wait for each other now: while the leader's log is being written, as the next write takes them
// all, and the followers' logs are written at the same time. The end of the write wakes the raft loop.
func (n *Node) gathering() bool {
	return n.state.Load() == uint64(raft.StateLeader) && n.append.underWay.Load() > 0
}

// proposalsDue says whether a turn takes the proposals that wait. Without a leader they stay where they are: their waiters have
// time limits of their own, and a leader may come.
func (n *Node) proposalsDue() bool {
	return n.lead.Load() != raft.None && (!n.gathering() || n.inbox.heavy())
}

// putLocked queues a proposal, unless its queue is full.
func (b *inbox) putLocked(p *Proposal) bool {
	if p.Urgent {
		if len(b.urgent) >= urgentMax {
			return false
		}
		b.urgent = append(b.urgent, p)
		return true
	}
	if len(b.proposals) >= proposalsMax || b.bytes+len(p.Data) > proposalBytesMax {
		return false
	}
	b.proposals = append(b.proposals, p)
	b.bytes += len(p.Data)
	return true
}
