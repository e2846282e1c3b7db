package member

import (
	"context"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// HandOver gives leadership to the voter that is connected for the longest time, if this member leads and there is one, so that
// the cluster need not notice first that its leader is gone. It is called before Stop.
func (m *Member) HandOver(ctx context.Context) {
	if !m.node.IsLeader() {
		return
	}
	var to cluster.ID
	var since time.Time
	for _, x := range m.Members().Voters() {
		at := m.activeSince(x.ID)
		if x.ID != m.self() && !at.IsZero() && (to == 0 || at.Before(since)) {
			to, since = x.ID, at
		}
	}
	if to == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Duration(m.cfg.ElectionTicks)*m.cfg.TickInterval)
	defer cancel()
	if err := m.TransferLeader(ctx, to); err != nil {
		m.cfg.Logger.Warn("cannot hand leadership over", "to", to.String(), "error", err)
		return
	}
	m.cfg.Logger.Info("handed leadership over", "to", to.String())
}
