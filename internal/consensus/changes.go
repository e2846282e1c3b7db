package consensus

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// changesMax bounds the configuration changes that wait; further ones are refused.
const changesMax = 64

// changes are the configuration changes that wait for their turn; the raft loop alone uses them. raft takes one only when the
// one before it is applied, and a new leader takes none before it has applied what it found in its log; a change that comes
// earlier it turns into an empty entry without a word, so its proposer would wait in vain. Here they wait instead, those of
// other members too.
type changes struct {
	waiting []*Proposal
	term    uint64 // in which this member leads, 0 when it does not
	after   uint64 // raft, as the leader in this term, takes the next one once this index is applied
	sought  bool   // the index is that of the entries in the next Ready
}

// lead notes in which term this member leads. What it appended in an earlier one may never be applied.
func (c *changes) lead(term uint64) {
	if c.term != term {
		c.term, c.after, c.sought = term, 0, false
	}
}

// put makes a change wait.
func (c *changes) put(p *Proposal) {
	if len(c.waiting) >= changesMax {
		p.fail(ErrTooManyRequests)
		return
	}
	c.waiting = append(c.waiting, p)
}

// appended notes the entries that raft appends to its log.
func (c *changes) appended(es []*raftpb.Entry) {
	if c.sought && len(es) > 0 {
		c.after, c.sought = es[len(es)-1].GetIndex(), false
	}
}

// proposeChange gives raft the next change, if it takes one now. A follower passes all on to the leader. REQUIRES: what raft
// appends in this turn is not yet handed out.
func (n *Node) proposeChange() {
	c := &n.changes
	if len(c.waiting) == 0 || n.lead.Load() == raft.None {
		return
	}
	c.lead(n.leadsNow())
	leads := c.term != 0
	for len(c.waiting) > 0 && !(leads && (c.sought || n.settled.Load() < c.after)) {
		p := c.waiting[0]
		c.waiting = c.waiting[1:]
		if p.Cancelled != nil && p.Cancelled() {
			continue
		}
		entries := []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Data: p.Data}}
		switch n.proposeBatch([]*Proposal{p}, entries) {
		case failed:
			continue
		case noRoom:
			c.waiting = append([]*Proposal{p}, c.waiting...)
			return
		}
		c.sought = leads
		if entries[0].GetType() != raftpb.EntryConfChange {
			c.waiting = append([]*Proposal{p}, c.waiting...) // an empty entry took its place
		}
	}
}

// failAll ends what waits. The raft loop must have ended.
func (c *changes) failAll(err error) {
	for _, p := range c.waiting {
		p.fail(err)
	}
	c.waiting = nil
}

// Progress is how far a leader knows another member to be.
type Progress struct {
	// Match is the index up to which the member's log is known to be the leader's, LeaderMatch the leader's own.
	Match, LeaderMatch uint64
	// Known says whether the member is part of the configuration.
	Known bool
}

// AskProgress asks for a member's progress. The raft loop calls answer at a turn, leader false when this member does not lead.
func (n *Node) AskProgress(id uint64, answer func(p Progress, leader bool)) {
	n.call(func(rn *raft.RawNode) {
		st := rn.Status()
		if st.RaftState != raft.StateLeader {
			answer(Progress{}, false)
			return
		}
		pr, known := st.Progress[id]
		answer(Progress{Match: pr.Match, LeaderMatch: st.Progress[n.cfg.ID].Match, Known: known}, true)
	})
}
