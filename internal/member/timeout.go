package member

import (
	"fmt"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

var (
	// ErrTimeoutLeaderFail is returned for a proposal that ran out of time and began while the cluster was losing its
	// leader. It wraps ErrTimeout.
	ErrTimeoutLeaderFail = fmt.Errorf("%w: the leader may have failed", ErrTimeout)
	// ErrTimeoutConnectionLost is returned for a proposal that ran out of time while this member, as the leader, was not
	// connected to a quorum, or not to the leader. It wraps ErrTimeout.
	ErrTimeoutConnectionLost = fmt.Errorf("%w: the connection may be lost", ErrTimeout)
)

// explain returns why a proposal that began at start has probably run out of time, by etcd's rule.
func (m *Member) explain(start time.Time) error {
	elected := m.node.LeaderSince()
	lost := elected.Add(-2 * m.lessor.grace())
	if start.After(lost) && start.Before(elected) {
		return ErrTimeoutLeaderFail
	}
	if m.cfg.ActiveSince == nil {
		return ErrTimeout
	}
	connected := func(id cluster.ID) bool {
		since := m.activeSince(id)
		return id == m.self() || !since.IsZero() && since.Before(start)
	}
	switch leader := cluster.ID(m.node.Leader()); leader {
	case 0:
	case m.self():
		all, n := m.Members().Members(), 0
		for _, x := range all {
			if connected(x.ID) {
				n++
			}
		}
		if n < len(all)/2+1 {
			return ErrTimeoutConnectionLost
		}
	default:
		if !connected(leader) {
			return ErrTimeoutConnectionLost
		}
	}
	return ErrTimeout
}
