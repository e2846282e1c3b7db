package member

import (
	"errors"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

var (
	// ErrNotEnoughStarted is returned for a change of the membership after which the voters
	// that were ever started would be no quorum. It had no effect.
	ErrNotEnoughStarted = errors.New("member: re-configuration failed due to not enough started members")
	// ErrUnhealthy is returned for a change of the membership while voters are not
	// connected, or were not for long. It had no effect.
	ErrUnhealthy = errors.New("member: unhealthy cluster")
)

// healthTime is how long a member must have been connected to count as healthy.
const healthTime = 5 * time.Second

// mayAdd applies --strict-reconfig-check to the addition of a member: enough voters must
// have been started, and all must be healthy.
func (m *Member) mayAdd(learner bool) error {
	if !m.cfg.StrictReconfigCheck {
		return nil
	}
	if !learner && !m.Members().MayAddVoter() {
		return ErrNotEnoughStarted
	}
	if healthy, all := m.healthy(); healthy < all {
		return ErrUnhealthy
	}
	return nil
}

// mayRemove applies --strict-reconfig-check to the removal of a member: the voters left
// must be able to go on. The only voter is not removed even without that flag.
func (m *Member) mayRemove(id cluster.ID) error {
	x, known := m.Members().Member(id)
	if errors.Is(m.Members().CheckRemove(id), cluster.ErrLastVoter) {
		return ErrNotEnoughStarted
	}
	if !m.cfg.StrictReconfigCheck || known && x.IsLearner {
		return nil
	}
	if !m.Members().MayRemoveVoter(id) {
		return ErrNotEnoughStarted
	}
	if id != m.self() && m.activeSince(id).IsZero() {
		return nil // it is down: the others do without it now
	}
	if healthy, all := m.healthy(); healthy-1 < 1+(all-1)/2 {
		return ErrUnhealthy
	}
	return nil
}

// healthy counts the voters that are connected for healthTime, this one among them.
func (m *Member) healthy() (healthy, all int) {
	since := m.cfg.Clock.Now().Add(-healthTime)
	for _, x := range m.Members().Voters() {
		all++
		active := m.activeSince(x.ID)
		if x.ID == m.self() || !active.IsZero() && active.Before(since) {
			healthy++
		}
	}
	return healthy, all
}

// activeSince returns since when a member is connected, zero when it is not.
func (m *Member) activeSince(id cluster.ID) time.Time {
	if m.cfg.ActiveSince == nil {
		return time.Time{}
	}
	return m.cfg.ActiveSince(uint64(id))
}
