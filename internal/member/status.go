package member

// Status is what a member knows of itself.
type Status struct {
	Leader             uint64
	Term               uint64
	Committed, Applied uint64
	Revision           int64
	// DiskBytes is what log and state take on disk, InUseBytes what is live in the state.
	DiskBytes, InUseBytes int64
	Learner               bool
}

// Status returns the member's status as of now.
func (m *Member) Status() Status {
	st := Status{
		Leader: m.node.Leader(), Term: m.node.Term(),
		Committed: m.node.Committed(), Applied: m.node.Applied(),
	}
	if self, ok := m.Members().Member(m.self()); ok {
		st.Learner = self.IsLearner
	}
	_ = m.held(func(g *generation) error {
		x := g.db.Metrics()
		st.Revision = g.store.Revision()
		st.DiskBytes = int64(x.DiskBytes)
		// What was written since the last flush is live, too.
		st.InUseBytes = int64(x.LiveBytes + x.MemTableBytes)
		return nil
	})
	return st
}
