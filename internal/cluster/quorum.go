package cluster

// The checks of --strict-reconfig-check that need only the membership: would enough of
// the voters that a change leaves have been started at all? A member counts as started
// once it has published its name.

// Voters returns all members that are no learners, sorted by id. They are the caller's.
func (m *Membership) Voters() []Member {
	all := m.Members()
	voters := all[:0]
	for _, x := range all {
		if !x.IsLearner {
			voters = append(voters, x)
		}
	}
	return voters
}

// MayAddVoter says whether the voters that were started are a quorum with one more voter,
// who is not. A cluster of one may always grow: so clusters are built.
func (m *Membership) MayAddVoter() bool {
	started, all := m.started(0)
	return started == 1 && all == 1 || isQuorum(started, all+1)
}

// MayPromote says whether the voters that were started are a quorum with a learner among
// them, who is.
func (m *Membership) MayPromote() bool {
	started, all := m.started(0)
	return isQuorum(started+1, all+1)
}

// MayRemoveVoter says whether the voters that were started are a quorum without one of
// them. The only voter may not be removed.
func (m *Membership) MayRemoveVoter(id ID) bool { return isQuorum(m.started(id)) }

// started counts the voters but the one with an id.
func (m *Membership) started(but ID) (started, all int) {
	for id, x := range m.now.Load().members {
		if x.IsLearner || id == but {
			continue
		}
		all++
		if x.Name != "" {
			started++
		}
	}
	return started, all
}

func isQuorum(n, all int) bool { return n >= all/2+1 }
