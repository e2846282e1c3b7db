package consensus

import (
	"sync/atomic"

	"go.etcd.io/raft/v3"
)

// matches tells other goroutines which members have how much of this leader's log. It is brought up to date at every tick: who asks wants to
// know by what others are behind, not by what they are late.
type matches struct {
	of atomic.Pointer[map[uint64]uint64] // nil while this member does not lead
}

// tick takes them from raft. Raft loop only.
func (x *matches) tick(n *Node) {
	if n.leadsNow() == 0 {
		x.of.Store(nil)
		return
	}
	all := make(map[uint64]uint64)
	n.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker) {
		if p.Match > 0 {
			all[id] = p.Match
		}
	})
	x.of.Store(&all)
}

// Match returns the entry up to which a member had the log at the last tick. It is false where this member does not lead, or the other one has
// said nothing since it does.
func (n *Node) Match(id uint64) (index uint64, ok bool) {
	all := n.matches.of.Load()
	if all == nil {
		return 0, false
	}
	index, ok = (*all)[id]
	return index, ok
}
