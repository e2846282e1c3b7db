package member

import "context"

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

// HashKV hashes the key-values up to rev, 0 or less for the newest, as etcd does, and
// says at which revision and compacted to which one.
func (m *Member) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	begin := m.cfg.Clock.Now()
	defer func() { m.measures.RevisionHashes.Took(m.cfg.Clock.Now().Sub(begin)) }()
	err = m.held(func(g *generation) (err error) {
		hash, compactRev, hashRev, err = g.store.HashKV(ctx, rev)
		return err
	})
	return hash, compactRev, hashRev, err
}
