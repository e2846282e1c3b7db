package consensus

import "go.etcd.io/raft/v3"

// sole reads. Where this member leads as the only voter, nobody else can commit anything, so a read needs nobody's word that it
// still leads: what is committed when the read begins is known here, and the read may go on once that is applied.
//
// The raft loop says so in Node.sole, under two rules.
//
//  1. It becomes false BEFORE anything leaves the turn in which raft has stepped down or taken another voter into its
//     configuration: another member commits something only after it has had an answer of this one to what this one sent then.
//  2. It becomes true AFTER Node.committed is that of the same turn, and only for a term in which an entry was committed: before that
//     the commit index may be behind what was acknowledged in earlier terms, or before a restart.
//
// Whoever acknowledges a write has applied it: this member, or a learner, which was told of the commit after
// Node.committed was set. So a read that finds sole true, loads the commit index then, and finds it applied, sees every write that
// was acknowledged before it began.

// noteSole ends sole reads, if raft does not lead alone any more; may says whether there may be some after this turn.
// REQUIRES: what this turn's Ready holds is not yet handed out.
func (n *Node) noteSole() (may bool) {
	st := n.rn.BasicStatus()
	may = st.RaftState == raft.StateLeader && n.alone() && n.proven(st.HardState.GetTerm(), st.HardState.GetCommit())
	if !may {
		n.sole.Store(false)
	}
	return may
}

// SoleRead says whether a linearizable read may go on at once, without ReadBarrier. That it may not says nothing.
func (n *Node) SoleRead() bool {
	if !n.sole.Load() {
		return false
	}
	committed := n.committed.Load()
	return n.applied.Load() >= committed && !n.stopping()
}

// passed is the batch of reads that may go on at once.
var passed = func() *ReadBatch {
	b := newReadBatch()
	b.finish(nil)
	return b
}()
