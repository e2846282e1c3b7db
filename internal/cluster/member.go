package cluster

import "slices"

// Member is one member as the cluster knows it. Its JSON is etcd's, in the context
// of configuration changes and in the records of a state.
type Member struct {
	ID         ID       `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner,omitempty"`
	Name       string   `json:"name,omitempty"`
	ClientURLs []string `json:"clientURLs,omitempty"`
}

// clone returns a copy that shares nothing.
func (m Member) clone() Member {
	m.PeerURLs = slices.Clone(m.PeerURLs)
	m.ClientURLs = slices.Clone(m.ClientURLs)
	return m
}

// ConfChangeContext is the JSON in a configuration entry's context.
type ConfChangeContext struct {
	Member
	// IsPromote says that the change makes a voter of a learner.
	IsPromote bool `json:"isPromote,omitempty"`
}
