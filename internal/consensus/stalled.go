package consensus

import (
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
)

// stalled hands leadership over while this member's log cannot be written. A leader applies only what its own log holds, so
// with a disk that stands still it would keep its clients waiting although the others go on: heartbeats need no disk, so nobody
// would depose it. Raft loop only.
type stalled struct {
	// tried are the members that were asked since the disk stands still. Each is asked once before one is asked again: one
	// that does not take over may have a disk that stands still itself.
	tried map[uint64]bool
}

// tick looks after the disk; it is called at every tick. raft gives up a handing over after an election timeout, and then the
// next member is asked.
func (s *stalled) tick(n *Node) {
	if !n.SyncStalled() {
		s.tried = nil
		return
	}
	st := n.rn.Status()
	if st.RaftState != raft.StateLeader || st.LeadTransferee != raft.None {
		return
	}
	to := s.next(n.cfg.ID, st)
	if to == raft.None {
		return
	}
	n.cfg.Logger.Warn("the disk of the log stands still: handing leadership over", "to", hex(to))
	n.rn.TransferLeader(to)
}

// next picks the voter whose log reaches furthest among those that were heard of lately and were not asked yet; raft.None if
// nobody was heard of.
func (s *stalled) next(self uint64, st raft.Status) uint64 {
	var best uint64
	anybody := false
	voters := st.Config.Voters.IDs()
	for _, id := range slices.Sorted(maps.Keys(voters)) {
		p, ok := st.Progress[id]
		if id == self || !ok || !p.RecentActive {
			continue
		}
		anybody = true
		if !s.tried[id] && (best == raft.None || p.Match > st.Progress[best].Match) {
			best = id
		}
	}
	switch {
	case best != raft.None:
		if s.tried == nil {
			s.tried = make(map[uint64]bool, len(voters))
		}
		s.tried[best] = true
	case anybody:
		s.tried = nil
		return s.next(self, st)
	}
	return best
}
