package member

import (
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

const (
	// missAfter is how long both streams of a leader must have been down before it is taken for gone. A connection that broke is
	// dialled again by then: whoever does not answer that has ended.
	missAfter = 200 * time.Millisecond
	// missLeaves is how many ticks are left for a heartbeat of a leader that is there nevertheless.
	missLeaves = 2
)

// missLeader shortens the wait for an election when the leader's process has ended: its connections break at once, while
// its silence says so only after an election timeout. A leader whose machine or network is gone breaks none, and is waited for.
//
// Without the first phase of elections nothing is shortened: a member that is wrong would depose a leader.
func (m *Member) missLeader() {
	if m.cfg.ActiveSince == nil || !m.cfg.PreVote {
		return
	}
	ticker := m.cfg.Clock.NewTicker(m.cfg.TickInterval)
	defer ticker.Stop()
	w := leaderWatch{after: max(missAfter, 2*m.cfg.TickInterval)}
	for {
		select {
		case now := <-ticker.C():
			leader := m.node.Leader()
			if leader == m.ID() || !w.missed(leader, leader != 0 && m.cfg.ActiveSince(leader).IsZero(), now) {
				continue
			}
			ticks := m.cfg.ElectionTicks - missLeaves
			m.cfg.Logger.Info("the leader has ended: shortening the wait for an election", "leader", cluster.ID(leader).String(), "ticks", ticks)
			m.node.AdvanceWithout(leader, ticks)
		case <-m.stop:
			return
		}
	}
}

// leaderWatch notices that a leader, which was connected, no longer is.
type leaderWatch struct {
	after  time.Duration
	leader uint64
	was    bool      // connected, since it leads and was last missed
	lost   time.Time // when it was first seen not to be; zero while it is
}

// missed takes a look at the present leader, 0 for none. It is true once for each loss that lasts.
func (w *leaderWatch) missed(leader uint64, down bool, now time.Time) bool {
	if leader != w.leader {
		w.leader, w.was, w.lost = leader, false, time.Time{}
	}
	switch {
	case leader == 0:
		return false
	case !down:
		w.was, w.lost = true, time.Time{}
		return false
	case w.lost.IsZero():
		w.lost = now
	}
	if !w.was || now.Sub(w.lost) < w.after {
		return false
	}
	w.was = false
	return true
}
