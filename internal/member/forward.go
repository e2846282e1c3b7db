package member

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// forwardRetry is how long to wait after the leader could not be asked.
const forwardRetry = 50 * time.Millisecond

// asPrimary calls here when this member is the primary of a term, and there with the leader's addresses when another one
// leads: again and again while the primary changes or cannot be asked, until RequestTimeout has passed. A leader whose machine stands still is
// waited for no longer than it is the leader. here returns ErrNotPrimary when it was another's.
func (m *Member) asPrimary(ctx context.Context, here func(term uint64) error, there func(ctx context.Context, urls []string) error) error {
	var timeout <-chan time.Time
	for {
		leader := m.node.LeaderChanged()
		term, changed := m.lessor.state()
		var retry <-chan time.Time
		if term != 0 {
			if err := here(term); !errors.Is(err, ErrNotPrimary) {
				return err
			}
		}
		if timeout == nil {
			timer := m.cfg.Clock.NewTimer(m.cfg.RequestTimeout)
			defer timer.Stop()
			timeout = timer.C()
		}
		if urls := m.leaderURLs(); term == 0 && len(urls) > 0 {
			asking, cancel := until(ctx, leader)
			done, err := m.askLeader(asking, urls, there)
			cancel()
			if done {
				return err
			}
			timer := m.cfg.Clock.NewTimer(forwardRetry)
			defer timer.Stop()
			retry = timer.C()
		}
		select {
		case <-changed:
		case <-leader:
		case <-retry:
		case <-timeout:
			return ErrTimeout
		case <-ctx.Done():
			return ctx.Err()
		case <-m.node.Done():
			return ErrStopped
		}
	}
}

// until returns a context that ends when a channel is closed, too.
func until(ctx context.Context, closed <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // it ends when cancel is called
		select {
		case <-closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// askLeader asks with RequestTimeout as the bound. done says whether what it returns is the leader's word.
func (m *Member) askLeader(ctx context.Context, urls []string, ask func(ctx context.Context, urls []string) error) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	err = ask(ctx, urls)
	var r *peer.Refusal
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &r) && r.Status == http.StatusNotFound:
		return true, lease.ErrNotFound
	default:
		m.cfg.Logger.Debug("cannot ask the leader", "error", err)
		return false, err
	}
}

// leaderURLs returns where the leader is to be asked, none when there is no other one.
func (m *Member) leaderURLs() []string {
	id := cluster.ID(m.node.Leader())
	if m.others == nil || id == 0 || id == m.self() {
		return nil
	}
	x, _ := m.Members().Member(id)
	return x.PeerURLs
}

// promoteThere asks the leader to promote a learner, and waits until that is applied here.
func (m *Member) promoteThere(ctx context.Context, id cluster.ID) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.RequestTimeout)
	defer cancel()
	for {
		err := m.waitLeader(ctx)
		if err == nil {
			err = m.others.Promote(ctx, m.leaderURLs(), uint64(id))
		}
		if err == nil {
			return m.ReadBarrier(ctx)
		}
		var r *peer.Refusal
		if errors.As(err, &r) {
			if err := promoteError(r); err != nil {
				return err
			}
		}
		timer := m.cfg.Clock.NewTimer(forwardRetry)
		select {
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return ErrTimeout
		case <-m.node.Done():
			timer.Stop()
			return ErrStopped
		}
	}
}

// learnerNotReady is how etcd says that a learner is behind.
const learnerNotReady = "etcdserver: can only promote a learner member which is in sync with leader"

// promoteError returns what the leader's refusal says, nil when the leader is to be asked again.
func promoteError(r *peer.Refusal) error {
	switch {
	case r.Status == http.StatusNotFound:
		return cluster.ErrIDNotFound
	case r.Status == http.StatusPreconditionFailed && strings.Contains(r.Text, learnerNotReady):
		return ErrLearnerNotReady
	case r.Status == http.StatusPreconditionFailed && strings.Contains(r.Text, cluster.ErrNotLearner.Error()):
		return cluster.ErrNotLearner
	}
	return nil
}
