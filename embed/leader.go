package embed

import (
	"context"
	"fmt"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// Leader returns the ID of the leader that the member knows, 0 when there is none.
func (s *Server) Leader() ID { return ID(s.member.Load().Status().Leader) }

// Lead is Leader as a number.
func (s *Server) Lead() uint64 { return uint64(s.Leader()) }

// Term returns the term of the consensus.
func (s *Server) Term() uint64 { return s.member.Load().Status().Term }

// IsLearner tells whether the member does not vote.
func (s *Server) IsLearner() bool { return s.member.Load().IsLearner() }

// LeaderChangedNotify returns a channel that is closed at the next change of leader that the member learns of, to none included.
// It stays open when the member ends: StopNotify is closed then.
func (s *Server) LeaderChangedNotify() <-chan struct{} { return s.leaders.next() }

// MoveLeader gives leadership from the member lead, which must be this one, to the voter transferee, and returns once that has it.
func (s *Server) MoveLeader(ctx context.Context, lead, transferee uint64) error {
	m := s.member.Load()
	if lead != m.ID() {
		return fmt.Errorf("embed: move leadership of %s: %w", ID(lead), member.ErrNotLeader)
	}
	if err := m.TransferLeader(ctx, cluster.ID(transferee)); err != nil {
		return fmt.Errorf("embed: move leadership to %s: %w", ID(transferee), err)
	}
	return nil
}

// leaders tells of changes of leader, of one member after another. The lock guards changed.
type leaders struct {
	mu       sync.Mutex
	changed  chan struct{} // replaced when it is closed
	watchers sync.WaitGroup
}

func (l *leaders) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *leaders) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// follow tells of the changes that a member learns of, until it ends.
func (l *leaders) follow(m *member.Member) {
	node := m.Node()
	next := node.LeaderChanged()
	l.watchers.Go(func() {
		for {
			select {
			case <-next:
				next = node.LeaderChanged()
				l.tell()
			case <-node.Done():
				return
			}
		}
	})
}

// wait returns once nobody is followed any more.
func (l *leaders) wait() { l.watchers.Wait() }
