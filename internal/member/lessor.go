package member

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

// Waits of the lessor, at the longest.
const (
	// lessorIdle is how often it looks around when nothing is due.
	lessorIdle = 500 * time.Millisecond
	// lessorRetry is how long it waits after something went wrong.
	lessorRetry = 100 * time.Millisecond
)

// lessor ends leases when their time is over. Only the leader's does: it is the primary of its term. The leases
// themselves are in lease.Table, on every member; when they end is known to the primary alone, in memory.
//
// # Promises
//
//  1. Nothing ends early. A primary gives every lease its full time to live (or what a checkpoint left) and an
//     election timeout, counted from when it became primary, which is after everything of earlier terms was applied.
//  2. What it decides by the clock it decides as the confirmed leader: a quorum has answered after the lease was due and
//     before its LeaseRevoke is proposed; and never while the log cannot be synced.
//  3. A renewal that was answered counts: leadership is confirmed between question and answer, and once a
//     LeaseRevoke is proposed the lease is not renewed any more, unless the proposal fails. After a time in which the
//     process stood still, nothing ends for an election timeout, in which renewals that came meanwhile are read.
//  4. The lease that is due first ends first, one LeaseRevoke for each, as urgent proposals: at most expiryRate a
//     second and endingMax under way, so that clients go on being served. One that the log refuses, as with the alarm
//     CORRUPT, is tried again; until then the lease can be renewed. Urgent proposals go before those of clients, but share
//     raft's bound of what is not committed with them: where that is full they are refused, and tried again.
//
// step does whatever is due without ever waiting; run calls it, or the simulator.
type lessor struct {
	m     *Member
	epoch time.Time // deadlines count from here

	revokes   atomic.Int32 // of clients, under way as urgent proposals
	takenBack atomic.Int32 // checkpoints, as urgent proposals too

	// Of step alone.
	asked     *consensus.ReadBatch // the confirmation of leadership under way, nil when there is none
	askedTerm uint64               // the term it is for
	askedAt   time.Duration        // when it began
	pace      pace
	flow      flow
	noted     time.Duration // when checkpoints were last proposed
	last      time.Duration // when it was last called
	hold      time.Duration // until when nothing ends, after a time in which this process stood still

	mu   sync.Mutex // guards what follows; held for some microseconds, apply takes it too
	term uint64     // the term in which this member is the primary, 0 when it is not
	// deadlines has every lease that may be renewed, ending those whose LeaseRevoke is proposed.
	deadlines lease.Deadlines
	ending    map[int64]*ending
	// checkpoints has when a lease is next to be checkpointed.
	checkpoints lease.Deadlines
	// checkpointing are those for which this primary has proposed a checkpoint that no renewal has taken back: it may
	// not be applied yet.
	checkpointing map[int64]struct{}
	// checkpointed are those found in the log since the start; see remaining.
	checkpointed map[int64]struct{}
	// gone are the leases that ended while the deadlines are loaded, nil at other times.
	gone    map[int64]struct{}
	changed chan struct{} // closed and replaced when term changes, and when the deadlines are loaded
}

// ending is a lease whose LeaseRevoke is proposed.
type ending struct {
	at   time.Duration // its deadline
	w    *waiter       // for the result of the LeaseRevoke
	done chan struct{} // closed when it has ended, or when that has failed
}

func (l *lessor) init(m *Member) {
	l.m, l.epoch = m, m.cfg.Clock.Now()
	l.changed = make(chan struct{})
	l.checkpointed = make(map[int64]struct{})
}

// since is a moment as the deadlines count.
func (l *lessor) since(t time.Time) time.Duration { return t.Sub(l.epoch) }

func (l *lessor) now() time.Duration { return l.since(l.m.cfg.Clock.Now()) }

func (l *lessor) run() {
	timer := l.m.cfg.Clock.NewTimer(lessorIdle)
	defer timer.Stop()
	for {
		changed := l.m.node.LeaderChanged()
		wait, sooner := l.step(l.m.cfg.Clock.Now())
		timer.Reset(wait)
		select {
		case <-timer.C():
		case <-sooner:
		case <-changed:
		case <-l.m.stop:
			return
		case <-l.m.node.Done():
			return
		}
	}
}

// step does what is due at a time. It says how long to wait for the next step, and what ends the wait sooner. One
// goroutine calls it.
func (l *lessor) step(at time.Time) (wait time.Duration, sooner <-chan struct{}) {
	now := l.since(at)
	if now-l.last > lessorIdle+l.grace() {
		// Renewals may lie in the buffers of connections.
		l.hold = now + l.grace()
	}
	l.last = now
	term, leads := l.m.node.Leads()
	switch {
	case !leads || l.m.Trusted() != nil: // what it knows of leases may be wrong, too
		l.demote()
		return lessorIdle, nil
	case !l.primary(term):
		l.demote()
		return l.promote(term)
	}
	wait, sooner = l.expire(term, now)
	if l.m.cfg.LeaseCheckpoint {
		wait = min(wait, l.checkpoint(term, now))
	}
	return wait, sooner
}

// primary says whether this member was made the primary of a term, which must not be 0.
func (l *lessor) primary(term uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term == term
}

// demote forgets all deadlines.
func (l *lessor) demote() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != 0 {
		l.setTermLocked(0)
	}
}

func (l *lessor) setTermLocked(term uint64) {
	l.term = term
	l.deadlines, l.checkpoints = lease.Deadlines{}, lease.Deadlines{}
	for _, e := range l.ending {
		l.forgetLocked(e)
	}
	l.ending, l.checkpointing = make(map[int64]*ending), make(map[int64]struct{})
	l.tellLocked()
}

// tellLocked wakes those who wait for this member to become the primary, or to be so no more.
func (l *lessor) tellLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// confirm asks a quorum whether this member is the leader in term. It is called until ok: that is so when the answer came and
// this member is still the leader in that term. applied also waits until what was committed when it was first called is
// applied. wait is what to wait for, nil when asking has failed.
func (l *lessor) confirm(term uint64, applied bool) (ok bool, wait <-chan struct{}) {
	if l.asked == nil || l.askedTerm != term {
		l.asked, l.askedTerm, l.askedAt = l.m.node.BeginRead(), term, l.now()
	}
	wait = l.asked.Confirmed()
	if applied {
		wait = l.asked.Done()
	}
	select {
	case <-wait:
	default:
		return false, wait
	}
	err := l.asked.Failed()
	l.asked = nil
	return err == nil && l.leads(term), nil
}

func (l *lessor) leads(term uint64) bool {
	now, ok := l.m.node.Leads()
	return ok && now == term
}

// promote makes this member the primary of term once it is confirmed and has applied what came before.
func (l *lessor) promote(term uint64) (wait time.Duration, sooner <-chan struct{}) {
	ok, answer := l.confirm(term, true)
	switch {
	case answer != nil:
		return lessorIdle, answer
	case !ok:
		return lessorRetry, nil
	}
	l.mu.Lock()
	l.setTermLocked(term)
	l.gone = make(map[int64]struct{})
	l.mu.Unlock()
	// From here on the changes come by noticed.
	now, lasts := l.now(), l.m.checkpointsLast()
	for some := range slices.Chunk(l.m.leases().List(), loadSlice) {
		l.load(some, now, lasts)
	}
	l.mu.Lock()
	l.gone = nil
	n := l.deadlines.Len()
	l.tellLocked()
	l.mu.Unlock()
	l.pace.rest()
	if n > 0 {
		l.m.cfg.Logger.Info("this member watches over the leases now", "leases", n, "term", term)
	}
	return 0, nil
}

// loadSlice is how many leases are loaded under the lock at a time.
const loadSlice = 4096

// load sets the deadlines of leases that nothing else was heard of yet. lasts says whether a checkpoint counts after a restart.
func (l *lessor) load(some []lease.Lease, now time.Duration, lasts bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range some {
		if _, there := l.deadlines.Get(x.ID); there {
			continue
		}
		if _, gone := l.gone[x.ID]; !gone {
			l.setLocked(x.ID, now, l.remaining(x, lasts)+l.grace())
		}
	}
}

// grace is what a new primary gives to every lease: for as long its predecessor may have renewed it.
func (l *lessor) grace() time.Duration {
	return time.Duration(l.m.cfg.ElectionTicks) * l.m.cfg.TickInterval
}

// setLocked gives a lease time from now on.
func (l *lessor) setLocked(id int64, now, left time.Duration) {
	l.deadlines.Set(id, now+left)
	l.scheduleLocked(id, now, left)
}

// raised is a lease with the time to live that it has here. Who asks for one at a member of etcd is promised what that one raises it to, and
// what its log has may be less: each member raises it by itself, to one and a half of its election timeouts.
func (m *Member) raised(x lease.Lease) lease.Lease {
	x.TTL = max(x.TTL, m.LeaseMinTTL())
	return x
}

// seconds is a number of seconds as a duration. lease.MaxTTL of them fit, and leave some years.
func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// noticed is told of each change of the leases by the apply loop, once readers see it.
func (l *lessor) noticed(c lease.Changed) {
	l.m.measures.leasesChanged(c)
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range c.Revoked {
		delete(l.checkpointed, id)
		if l.term != 0 {
			l.endLocked(id)
		}
	}
	for _, x := range c.Checkpointed {
		if x.Remaining > 0 && l.m.cfg.LeaseCheckpoint {
			l.checkpointed[x.ID] = struct{}{}
		} else {
			delete(l.checkpointed, x.ID)
		}
	}
	if l.term == 0 {
		return
	}
	for _, x := range c.Granted {
		l.setLocked(x.ID, now, seconds(l.m.raised(x).TTL))
	}
}

// endLocked forgets a lease that is there no more.
func (l *lessor) endLocked(id int64) {
	l.deadlines.Remove(id)
	l.checkpoints.Remove(id)
	delete(l.checkpointing, id)
	if e, ok := l.ending[id]; ok {
		// It counts as expired even if a client was first to end it.
		l.m.measures.LeasesExpired.Inc()
		delete(l.ending, id)
		l.forgetLocked(e)
	}
	if l.gone != nil {
		l.gone[id] = struct{}{}
	}
}

// forgetLocked ends the wait for a LeaseRevoke.
func (l *lessor) forgetLocked(e *ending) {
	if e.w != nil {
		l.m.waiters.release(e.w)
	}
	close(e.done)
}

// reload is told that the whole state was replaced, which happens to no leader.
func (l *lessor) reload() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checkpointed = make(map[int64]struct{})
	if l.term != 0 {
		l.setTermLocked(0)
	}
}
