package embed

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/server"
)

// ID identifies a member or a cluster; 0 is none.
type ID uint64

// String returns the ID in hexadecimal digits, as logs and the client print it.
func (id ID) String() string { return cluster.ID(id).String() }

// Server is the serving side of a member. Its methods may be called from any goroutine, also after the member has ended.
type Server struct {
	end      context.CancelCauseFunc
	stopping <-chan struct{}               // closed by end
	member   atomic.Pointer[member.Member] // replaced when the member begins anew with a rebuilt state
	leaders  leaders
	removed  atomic.Bool
	errs     chan error // of ErrNotify

	local          *bufconn.Listener // for clients inside the process
	features       FeatureGate       // not changed any more
	requestTimeout time.Duration

	started, ready, stopped chan struct{}
	startOnce, readyOnce    sync.Once
}

func newServer(end context.CancelCauseFunc) *Server {
	return &Server{end: end, leaders: leaders{changed: make(chan struct{})}, errs: make(chan error, 1),
		started: make(chan struct{}), ready: make(chan struct{}), stopped: make(chan struct{})}
}

func (s *Server) starts(m *member.Member) {
	again := s.member.Swap(m) != nil
	s.leaders.follow(m)
	if again {
		s.leaders.tell() // it knows no leader yet
	}
	s.startOnce.Do(func() { close(s.started) })
}

func (s *Server) serves(*member.Member) { s.readyOnce.Do(func() { close(s.ready) }) }

func (s *Server) wasRemoved() {
	if !s.removed.Swap(true) {
		s.errs <- ErrRemoved
	}
}

// ReadyNotify is closed once clients are served for the first time. It stays open when the member ends before that.
func (s *Server) ReadyNotify() <-chan struct{} { return s.ready }

// StopNotify is closed once the member has ended, for whatever reason; then Err holds the reason, if there is one.
func (s *Server) StopNotify() <-chan struct{} { return s.stopped }

// StoppingNotify is closed once the member is told to end, or has ended by itself.
func (s *Server) StoppingNotify() <-chan struct{} { return s.stopping }

// ErrNotify gives ErrRemoved when the member is removed from its cluster, just before it ends: Etcd.Err gives it once the member has ended.
func (s *Server) ErrNotify() <-chan error { return s.errs }

// Stop ends the member in good order and returns when it has ended. It may be called more than once.
func (s *Server) Stop() {
	s.end(nil)
	<-s.stopped
}

// HardStop is Stop without giving leadership to another member first: the others have to notice that the leader is gone.
func (s *Server) HardStop() {
	s.end(server.ErrNoHandOver)
	<-s.stopped
}

// MemberID returns the member's ID.
func (s *Server) MemberID() ID { return ID(s.member.Load().ID()) }

// ID is MemberID under the name that it had in etcd 3.5.
func (s *Server) ID() ID { return s.MemberID() }

// CommittedIndex returns the index of the last entry that a majority is known to hold.
func (s *Server) CommittedIndex() uint64 { return s.member.Load().Status().Committed }

// AppliedIndex returns the index of the last entry whose effect is in the member's state.
func (s *Server) AppliedIndex() uint64 { return s.member.Load().Status().Applied }

// LinearizableReadNotify returns once all that was acknowledged before is in the member's state. It takes a majority of the members.
func (s *Server) LinearizableReadNotify(ctx context.Context) error {
	if err := s.member.Load().ReadBarrier(ctx); err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	return nil
}

// RequestTimeout returns how long a request may take.
func (s *Server) RequestTimeout() time.Duration { return s.requestTimeout }

// FeatureEnabled tells whether a feature gate is open.
func (s *Server) FeatureEnabled(f Feature) bool { return s.features.Enabled(f) }

// IsMemberExist tells whether there is such a member in the cluster.
func (s *Server) IsMemberExist(id ID) bool { return s.Cluster().IsMemberExist(id) }

// IsIDRemoved tells whether such a member was removed from the cluster.
func (s *Server) IsIDRemoved(id uint64) bool {
	return s.member.Load().Members().IsRemoved(cluster.ID(id))
}

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
		out = append(out, public(m))
	}
	return out
}

// Member returns one member, nil when there is none of that ID.
func (c *Cluster) Member(id ID) *Member {
	m, ok := c.of.member.Load().Members().Member(cluster.ID(id))
	if !ok {
		return nil
	}
	out := public(m)
	return &out
}

func public(m cluster.Member) Member {
	return Member{ID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner}
}

// IsMemberExist tells whether there is such a member.
func (c *Cluster) IsMemberExist(id ID) bool { return c.Member(id) != nil }

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
