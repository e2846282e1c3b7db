package member

import "time"

const (
	// hastenEvery is how often a member that has just started looks whether the others are there, hastenFor for how long.
	hastenEvery = 50 * time.Millisecond
	hastenFor   = 5 * time.Second
	// hastenOthers are connected before a member trusts that a leader's heartbeat would have come by now, as in etcd.
	hastenOthers = 2
	// hastenLeaves is how many ticks are left for such a heartbeat to come.
	hastenLeaves = 2
)

// hasten shortens the wait for the first election after a start (--initial-election-tick-advance): a cluster that starts as a
// whole has no leader to wait for. It ends with the first leader.
func (m *Member) hasten() {
	if !m.cfg.ElectionTickAdvance || m.cfg.ActiveSince == nil {
		return
	}
	ticker := m.cfg.Clock.NewTicker(hastenEvery)
	defer ticker.Stop()
	for end := m.cfg.Clock.Now().Add(hastenFor); m.cfg.Clock.Now().Before(end); {
		select {
		case <-ticker.C():
		case <-m.stop:
			return
		}
		if m.node.Leader() != 0 {
			return
		}
		if others := m.connected(); others >= hastenOthers {
			ticks := m.cfg.ElectionTicks - hastenLeaves
			m.cfg.Logger.Info("shortening the wait for an election", "ticks", ticks, "others-connected", others)
			m.node.Advance(ticks)
			return
		}
	}
}

// connected counts the other members that this one is connected with.
func (m *Member) connected() (n int) {
	for _, x := range m.Members().Members() {
		if x.ID != m.self() && !m.cfg.ActiveSince(uint64(x.ID)).IsZero() {
			n++
		}
	}
	return n
}
