package member

// Status is what a member knows of itself.
type Status struct {
	Leader             uint64
	Term               uint64
	Committed, Applied uint64
	Revision           int64
	// DiskBytes is what the state takes on disk, InUseBytes what of it counts against the quota: see mvcc.Store.SizeInUse. The first
	// is no smaller than the second: what is still only in the log will come to the state's files.
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
		st.InUseBytes = g.inUse()
		st.DiskBytes = max(int64(x.DiskBytes), st.InUseBytes)
		return nil
	})
	return st
}
