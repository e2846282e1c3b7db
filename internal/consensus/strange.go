package consensus

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// What follows keeps out what no sound member sends, of ours or of etcd: raft would panic at it, or the state machines of all members
// would end with it, at every start anew once it is committed.

// sound says whether raft can take a message of another member. One that has to have a term and has none raft would take for its own, and it
// panics where one is that has to have none.
func sound(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgSnap:
		return true // the state machine waits for the word on each, and soundSnapshot says which raft can take
	case raftpb.MsgReadIndex:
		return len(m.GetEntries()) == 1 && m.GetTerm() == 0
	case raftpb.MsgTransferLeader:
		return false // it is asked of leaders alone; one that ceases to be one just then would pass it on
	case raftpb.MsgHeartbeatResp:
		n := len(m.GetContext()) // raft reads a number there
		return m.GetTerm() != 0 && (n == 0 || n >= 8)
	default:
		return m.GetTerm() != 0
	}
}

// soundSnapshot is sound for a MsgSnap, which comes another way than messages do. A candidate would go back to term 0 with one without a term, and a
// follower take itself for the leader with one of its own.
func (n *Node) soundSnapshot(m *raftpb.Message) bool {
	return m.GetTerm() != 0 && m.GetFrom() != n.cfg.ID
}

// isForFormerTerm says whether m answers what this member has sent as the leader of a former term, and tells it of the one that it leads in already. It has no
// index. raft would take it for one: that the other's log is the same up to entry 0. It would send all anew, which mostly is a snapshot.
func (n *Node) isForFormerTerm(m *raftpb.Message) bool {
	return m.GetType() == raftpb.MsgAppResp && m.GetIndex() == 0 && !m.GetReject() && m.GetTerm() == n.leadsNow()
}

// takePassedOn takes what a follower passes on to this member, which leads or passes it on in turn. Without a leader it is lost, as with raft.
func (n *Node) takePassedOn(m *raftpb.Message) {
	if n.lead.Load() == raft.None {
		return
	}
	n.inbox.passOn(m.GetFrom(), slices.DeleteFunc(m.GetEntries(), func(e *raftpb.Entry) bool {
		err := n.acceptable(e)
		if err != nil {
			n.cfg.Logger.Warn("throwing a proposal of another member away", "from", hex(m.GetFrom()), "error", err)
		}
		return err != nil
	}))
	if n.proposalsDue() {
		n.hurry()
	}
}

var errJointChange = errors.New("no member proposes joint configurations")

// acceptable returns why an entry that another member proposes must not get into the log.
func (n *Node) acceptable(e *raftpb.Entry) error {
	switch e.GetType() {
	case raftpb.EntryConfChangeV2:
		return errJointChange
	case raftpb.EntryConfChange:
		if err := proto.Unmarshal(e.GetData(), &raftpb.ConfChange{}); err != nil {
			return fmt.Errorf("read a configuration change: %w", err)
		}
	}
	if n.cfg.Acceptable == nil {
		return nil
	}
	return n.cfg.Acceptable(e)
}
