package consensus

import (
	"errors"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Turn runs the raft loop once: it steps everything that waits into raft and
// hands out what one Ready asks for. It reports whether there was anything to do.
// Only one goroutine may call it.
func (n *Node) Turn() (busy bool) {
	defer n.endUnread()
	in := n.inbox.take(len(n.held) == 0 && n.proposalsDue())
	busy = !in.empty()

	for range in.ticks {
		n.rn.Tick()
		n.reads.tick(&n.inbox, n.rn, n.mayAsk())
		n.stalled.tick(n)
	}
	if in.ticks > 0 {
		n.append.tick()
		n.crowd.tick()
		n.matches.tick(n)
	}
	for _, f := range in.calls {
		f(n.rn)
	}
	for _, m := range in.responses {
		n.step(m)
		n.settle(m)
	}
	for _, m := range in.messages {
		switch {
		case m.GetType() == raftpb.MsgSnap && !(n.soundSnapshot(m) && n.idle()):
		case m.GetType() == raftpb.MsgReadIndex && n.leadsNow() != 0:
			n.reads.ask(m)
		case n.isForFormerTerm(m):
		default:
			n.step(m)
		}
	}
	n.campaignAlone()
	busy = n.proposeHeld(slices.ContainsFunc(in.responses, endsApply)) || busy
	n.propose(in.urgent)
	n.propose(in.proposals)
	n.proposeChange()
	n.maybeRead()
	sole := n.noteSole()
	if n.rn.HasReady() {
		busy = true
		n.handle(n.rn.Ready())
	}
	if sole {
		n.sole.Store(true)
	}
	n.notices.due(in.ticks > 0)
	n.tellSnapshots(in.messages)
	n.reads.release(n.applied.Load())
	return busy
}

// endUnread ends the node, and the panic of raft, when raft could not read the log in this turn.
func (n *Node) endUnread() {
	if err := n.store.failed; err != nil {
		_ = recover() // raft's is no more than err
		n.fatal(err)
	}
}

// endsApply says whether a storage response tells raft of entries that were applied.
func endsApply(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgStorageApplyResp && len(m.GetEntries()) > 0
}

// settle notes what raft has learnt from a storage response to be applied.
func (n *Node) settle(m *raftpb.Message) {
	var index uint64
	switch es := m.GetEntries(); {
	case endsApply(m):
		index = es[len(es)-1].GetIndex()
	case m.GetType() == raftpb.MsgStorageAppendResp && !raft.IsEmptySnap(m.GetSnapshot()):
		index = m.GetSnapshot().GetMetadata().GetIndex()
	default:
		return
	}
	n.settled.Store(index)
	n.cfg.Log.Settled(index)
}

// idle says whether all that raft knows to be committed is applied. Only then may it see a snapshot: raft takes the
// snapshot's configuration at once, and a change that the apply loop still has in hand would be made on top of it,
// although the snapshot is newer. The sender of one that is thrown away tries again.
func (n *Node) idle() bool {
	return n.applied.Load() >= n.rn.BasicStatus().HardState.GetCommit()
}

// tellSnapshots tells the state machine which of the snapshots that were stepped in
// this turn raft has taken: it hands one out to be installed at once or never.
func (n *Node) tellSnapshots(stepped []*raftpb.Message) {
	for _, m := range stepped {
		if m.GetType() == raftpb.MsgSnap {
			index := m.GetSnapshot().GetMetadata().GetIndex()
			n.cfg.Machine.SnapshotDecided(index, index == n.snapshotTaken)
		}
	}
	n.snapshotTaken = 0
}

// maybeRead starts a ReadIndex for the reads that gathered.
func (n *Node) maybeRead() {
	if n.lead.Load() == raft.None || !n.reads.due(&n.inbox) || !n.mayAsk() {
		return
	}
	if n.leadsNow() == 0 {
		n.reads.asked = nil // whoever asked asks again, another one
	}
	n.reads.start(&n.inbox, n.rn)
}

// mayAsk says whether raft may be given a ReadIndex. A leader must have committed an entry of its own term first: before that its
// commit index may be behind what was acknowledged earlier, in other terms or before a restart. And it must be a voter: one that was
// removed still leads for raft, and the others may commit without it. raft sees to both itself, except where there is one voter: then a
// leader answers at once, a learner's question too.
func (n *Node) mayAsk() bool {
	st := n.rn.BasicStatus()
	return st.RaftState != raft.StateLeader || n.proven(st.HardState.GetTerm(), st.HardState.GetCommit()) && n.belongs()
}

// proven says whether the entry at commit, to which raft has committed, is of that term.
func (n *Node) proven(term, commit uint64) bool {
	if n.servedTerm == term {
		return true
	}
	if t, err := n.cfg.Log.Term(commit); err != nil || t != term {
		return false
	}
	n.servedTerm = term
	return true
}

// alone says whether this member is the only voter.
func (n *Node) alone() bool {
	voters, self := 0, false
	n.rn.WithProgress(func(id uint64, typ raft.ProgressType, _ tracker) {
		if typ == raft.ProgressTypePeer {
			voters++
			self = self || id == n.cfg.ID
		}
	})
	return voters == 1 && self
}

// step gives raft a message. Its errors say that the message is out of date or
// from a member not known, which a network may always produce.
func (n *Node) step(m *raftpb.Message) {
	if err := n.rn.Step(m); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		n.cfg.Logger.Debug("raft did not take a message", "type", m.GetType().String(),
			"from", m.GetFrom(), "error", err)
	}
}

// campaignAlone stands for election at once when this member is a quorum by
// itself: nobody can be disturbed and there is nobody to wait for.
func (n *Node) campaignAlone() {
	if n.lead.Load() != raft.None || n.state.Load() != uint64(raft.StateFollower) {
		return
	}
	if n.applied.Load() < n.replayTo {
		return
	}
	if n.alone() {
		_ = n.rn.Campaign()
	}
}

// propose gives raft all proposals that wait in one message, or a few when they
// are large.
func (n *Node) propose(ps []*Proposal) {
	if len(ps) == 0 {
		return
	}
	all := make([]raftpb.Entry, len(ps))
	entries := make([]*raftpb.Entry, 0, len(ps))
	batch := make([]*Proposal, 0, len(ps))
	size := 0
	flush := func() {
		switch n.proposeBatch(batch, entries) {
		case noRoom:
			n.held = append(n.held, batch...)
		case taken:
			for _, p := range batch {
				p.Data = nil // raft has a copy, or a message for the leader has it; who waits for the result holds p
			}
		}
		entries, batch, size = entries[len(entries):], batch[len(batch):], 0
	}
	leads := n.leadsNow()
	for i, p := range ps {
		if p.Cancelled != nil && p.Cancelled() {
			continue
		}
		if p.LeaderTerm != 0 && p.LeaderTerm != leads {
			p.fail(ErrLeaderChanged)
			continue
		}
		if p.ConfChange {
			n.changes.put(p)
			continue
		}
		if size > 0 && uint64(size+len(p.Data)) > n.cfg.uncommittedBytes/8 {
			flush()
		}
		if len(n.held) > 0 { // they keep their order
			n.held = append(n.held, p)
			continue
		}
		all[i].Data = p.Data
		entries, batch, size = append(entries, &all[i]), append(batch, p), size+len(p.Data)
	}
	if len(batch) > 0 {
		flush()
	}
}

// proposeHeld proposes again what raft had no room for, once there may be some. It reports whether it is all with raft now: more may
// wait behind it. Where this member does not lead any more, it goes back to where proposals wait for a leader.
func (n *Node) proposeHeld(room bool) bool {
	ps := n.held
	switch {
	case len(ps) == 0:
		return false
	case n.leadsNow() == 0:
		n.held = nil
		n.inbox.putBack(ps)
		return true
	case !room:
		return false
	}
	n.held = nil
	n.propose(ps)
	return len(n.held) == 0
}

// leadsNow returns the term in which raft leads, 0 when it does not. In the turn in which it learns of another leader it knows
// that before Leads does.
func (n *Node) leadsNow() (term uint64) {
	if st := n.rn.BasicStatus(); st.RaftState == raft.StateLeader {
		return st.HardState.GetTerm()
	}
	return 0
}

// outcome is what became of a batch of proposals.
type outcome int

const (
	taken  outcome = iota // raft has them
	failed                // they have failed
	noRoom                // raft holds as many bytes as it may that are not applied: there will be room later
)

// proposeBatch gives raft the entries of ps, which takes a batch whole or not at all, and fails ps if raft never will.
func (n *Node) proposeBatch(ps []*Proposal, entries []*raftpb.Entry) outcome {
	err := n.rn.Step(&raftpb.Message{
		Type: raftpb.MsgProp.Enum(), From: &n.cfg.ID, Entries: entries,
	})
	if err == nil {
		n.expected(ps)
		return taken
	}
	// raft drops a batch while leadership is being transferred, when this member has left, without a leader, or above its bound.
	if errors.Is(err, raft.ErrProposalDropped) {
		if n.leadsNow() != 0 && n.rn.BasicStatus().LeadTransferee == raft.None && n.belongs() {
			return noRoom
		}
		err = ErrDropped
	}
	for _, p := range ps {
		p.fail(err)
	}
	return failed
}

// expected notes who waits for proposals that followers passed on and that raft has taken.
func (n *Node) expected(ps []*Proposal) {
	if n.leadsNow() == 0 {
		return
	}
	for _, p := range ps {
		if p.passedOn {
			n.notices.expect(p.from)
		}
	}
}

// belongs says whether this member is part of the configuration.
func (n *Node) belongs() (yes bool) {
	n.rn.WithProgress(func(id uint64, _ raft.ProgressType, _ tracker) { yes = yes || id == n.cfg.ID })
	return yes
}

// handle hands out one Ready. Votes are asked for once the own vote is stored, which comes in the same Ready. raft sends them at once and only does not
// count its own before, but the others' may be a majority by themselves: a candidate that they elect, and that forgets the term in a crash, could be
// elected in it again, and give other entries the index and term of those that it has sent before.
func (n *Node) handle(rd raft.Ready) {
	n.publish(rd)
	if len(rd.ReadStates) > 0 {
		n.answerReads(n.reads.confirm(rd.ReadStates))
		// The next batch need not wait for another turn.
		n.maybeRead()
	}
	var peers, votes []*raftpb.Message
	var stored *raftpb.Message
	for _, m := range rd.Messages {
		switch {
		case m.GetTo() == raft.LocalAppendThread:
			n.entered(m)
			stored = m
		case m.GetType() == raftpb.MsgVote:
			votes = append(votes, m)
		case m.GetTo() == raft.LocalApplyThread:
			n.apply.put(m)
		case m.GetType() == raftpb.MsgSnap:
			n.apply.putSnapshotToSend(m)
		default:
			peers = append(peers, m)
		}
	}
	if peers = n.notices.pass(peers); len(peers) > 0 {
		n.heartbeats.sent(n, peers)
		n.cfg.Send(peers)
	}
	// Whom others wait for longest begins first, which are those that were just sent to. Of the other two loops it is the one
	// that was woken last.
	if stored != nil {
		stored.Responses = append(stored.GetResponses(), votes...)
		n.append.put(stored)
	}
}

// entered takes note of what raft appends to its log.
func (n *Node) entered(m *raftpb.Message) {
	if !raft.IsEmptySnap(m.GetSnapshot()) {
		n.snapshotTaken = m.GetSnapshot().GetMetadata().GetIndex()
	}
	es := m.GetEntries()
	n.changes.appended(es)
	n.notices.entered(es)
	n.crowd.note(len(es))
}

// answerReads sends other members the answers to what they asked, unless this member does not lead any more.
func (n *Node) answerReads(answers []*raftpb.Message) {
	term := n.leadsNow()
	if len(answers) == 0 || term == 0 {
		return
	}
	for _, m := range answers {
		m.From, m.Term = &n.cfg.ID, proto.Uint64(term)
		n.notices.await(m.GetTo(), m.GetIndex())
	}
	n.cfg.Send(answers)
}

// publish makes the new soft and hard state readable by other goroutines.
func (n *Node) publish(rd raft.Ready) {
	if rd.HardState != nil {
		n.term.Store(rd.HardState.GetTerm())
		n.committed.Store(rd.HardState.GetCommit())
	}
	if rd.SoftState == nil {
		return
	}
	n.state.Store(uint64(rd.SoftState.RaftState))
	old := n.lead.Swap(rd.SoftState.Lead)
	if old == rd.SoftState.Lead {
		return
	}
	n.cfg.Logger.Info("leader changed", "from", hex(old), "to", hex(rd.SoftState.Lead), "term", n.term.Load())
	n.leaderless.changed(n, rd.SoftState.Lead)
	if rd.SoftState.Lead != raft.None {
		now := n.cfg.Clock.Now()
		n.leadSince.Store(&now)
	}
	if old != raft.None {
		n.reads.failInflight(ErrLeaderChanged)
	}
	if rd.SoftState.Lead == raft.None {
		n.inbox.dropPassedOn()
	}
	n.leadMu.Lock()
	close(n.leadChanged)
	n.leadChanged = make(chan struct{})
	n.leadMu.Unlock()
	// Proposals and reads may have waited for a leader.
	n.inbox.signal()
}
