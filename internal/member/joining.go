package member

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Joining says which member of which running cluster a new data directory is for. Whoever runs the member has asked the others.
type Joining struct{ Cluster, Member cluster.ID }

// beginning is what a bootstrapped member's log begins with.
type beginning struct {
	identity storage.Identity
	hs       raftlog.HardState
	entries  []*raftpb.Entry
}

// beginning returns that of a founding member, or of one that joins: it has an empty log, and gets everything from the others.
func (m *Member) beginning() (b beginning, err error) {
	b.identity.Format = storage.FormatVersion
	if j := m.cfg.Joining; j != nil {
		b.identity.ClusterID, b.identity.MemberID = uint64(j.Cluster), uint64(j.Member)
		return b, nil
	}
	founding, err := cluster.Found(m.cfg.InitialCluster, m.cfg.Token)
	if err != nil {
		return b, err
	}
	self, ok := founding.ByName(m.cfg.Name)
	if !ok {
		return b, fmt.Errorf("member %q is not in the initial cluster", m.cfg.Name)
	}
	b.identity.ClusterID, b.identity.MemberID = uint64(founding.ID()), uint64(self.ID)
	b.entries = founding.BootstrapEntries()
	b.hs = raftlog.HardState{Term: 1, Commit: uint64(len(b.entries))}
	return b, nil
}

// tellMembers tells the transport who the members are, and notes whether this one is a learner.
func (m *Member) tellMembers(g *generation) {
	self, _ := g.members.Member(m.self())
	m.learner.Store(self.IsLearner)
	if m.cfg.MembersChanged != nil {
		m.cfg.MembersChanged(g.members)
	}
}

// IsLearner says whether this member is a learner, as far as it knows.
func (m *Member) IsLearner() bool { return m.learner.Load() }
