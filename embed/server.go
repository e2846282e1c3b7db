package embed

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// ID identifies a member or a cluster; 0 is none.
type ID uint64

// String returns the ID in hexadecimal digits, as logs and the client print it.
func (id ID) String() string { return cluster.ID(id).String() }

// Server is the serving side of a member. Its methods may be called from any goroutine, also after the member has ended.
type Server struct {
	end     context.CancelFunc
	member  atomic.Pointer[member.Member] // replaced when the member begins anew with a rebuilt state
	removed atomic.Bool

	started, ready, stopped chan struct{}
	startOnce, readyOnce    sync.Once
}

func newServer(end context.CancelFunc) *Server {
	return &Server{end: end, started: make(chan struct{}), ready: make(chan struct{}), stopped: make(chan struct{})}
}

func (s *Server) starts(m *member.Member) {
	s.member.Store(m)
	s.startOnce.Do(func() { close(s.started) })
}

func (s *Server) serves(*member.Member) { s.readyOnce.Do(func() { close(s.ready) }) }

func (s *Server) wasRemoved() { s.removed.Store(true) }

// ReadyNotify is closed once clients are served for the first time. It stays open when the member ends before that.
func (s *Server) ReadyNotify() <-chan struct{} { return s.ready }

// StopNotify is closed once the member has ended, for whatever reason; then Err holds the reason, if there is one.
func (s *Server) StopNotify() <-chan struct{} { return s.stopped }

// Stop ends the member in good order and returns when it has ended. It may be called more than once.
func (s *Server) Stop() {
	s.end()
	<-s.stopped
}

// MemberID returns the member's ID.
func (s *Server) MemberID() ID { return ID(s.member.Load().ID()) }

// Leader returns the ID of the leader that the member knows, 0 when there is none.
func (s *Server) Leader() ID { return ID(s.member.Load().Status().Leader) }

// Term returns the term of the consensus.
func (s *Server) Term() uint64 { return s.member.Load().Status().Term }

// CommittedIndex returns the index of the last entry that a majority is known to hold.
func (s *Server) CommittedIndex() uint64 { return s.member.Load().Status().Committed }

// AppliedIndex returns the index of the last entry whose effect is in the member's state.
func (s *Server) AppliedIndex() uint64 { return s.member.Load().Status().Applied }

// IsLearner tells whether the member does not vote.
func (s *Server) IsLearner() bool { return s.member.Load().IsLearner() }

// ClusterVersion returns the version of etcd that all members of the cluster support, such as "3.6.0"; "" while it is not decided.
func (s *Server) ClusterVersion() string { return s.member.Load().Members().Version() }

// Cluster returns the cluster as the member knows it.
func (s *Server) Cluster() *Cluster { return &Cluster{s} }

// Cluster is what a member knows of the members of its cluster. It is always the latest.
type Cluster struct{ of *Server }

// ID returns the ID of the cluster.
func (c *Cluster) ID() ID { return ID(c.of.member.Load().ClusterID()) }

// Member is one member of a cluster. A member that has not started yet has no name and no addresses for clients.
type Member struct {
	ID                   ID
	Name                 string
	PeerURLs, ClientURLs []string
	IsLearner            bool
}

// Members returns all members, sorted by their IDs.
func (c *Cluster) Members() []Member {
	var out []Member
	for _, m := range c.of.member.Load().Members().Members() {
		out = append(out, Member{ID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
	}
	return out
}

// IsMemberExist tells whether there is such a member.
func (c *Cluster) IsMemberExist(id ID) bool {
	return slices.ContainsFunc(c.Members(), func(m Member) bool { return m.ID == id })
}

// ClientURLs returns the addresses of all members for clients.
func (c *Cluster) ClientURLs() []string {
	var out []string
	for _, m := range c.Members() {
		out = append(out, m.ClientURLs...)
	}
	return out
}

// PeerURLs returns the addresses of all members for each other.
func (c *Cluster) PeerURLs() []string {
	var out []string
	for _, m := range c.Members() {
		out = append(out, m.PeerURLs...)
	}
	return out
}
