package consensus

import "go.etcd.io/raft/v3"

// Advance lets a number of ticks pass at once at the next turn, for a follower that knows of no leader; for others it does
// nothing. Fewer than ElectionTicks start no election of a node that was just made.
func (n *Node) Advance(ticks int) { n.advanceOf(raft.None, ticks) }

// AdvanceWithout is Advance for a follower of a leader that seems to be gone. If it is not, its next heartbeat undoes this.
// REQUIRES: fewer ticks than ElectionTicks.
func (n *Node) AdvanceWithout(leader uint64, ticks int) { n.advanceOf(leader, ticks) }

// advanceOf lets ticks pass for a follower of leader, until it stands for election.
func (n *Node) advanceOf(leader uint64, ticks int) {
	n.call(func(rn *raft.RawNode) {
		for range ticks {
			if st := rn.BasicStatus(); st.RaftState != raft.StateFollower || st.Lead != leader {
				return
			}
			rn.Tick()
		}
	})
}
