package consensus

import "go.etcd.io/raft/v3"

// Advance lets a number of ticks pass at once at the next turn, for a follower that knows of no leader; for others it does
// nothing. Fewer than ElectionTicks start no election of a node that was just made.
func (n *Node) Advance(ticks int) {
	n.call(func(rn *raft.RawNode) {
		if st := rn.BasicStatus(); st.RaftState != raft.StateFollower || st.Lead != raft.None {
			return
		}
		for range ticks {
			rn.Tick()
		}
	})
}
