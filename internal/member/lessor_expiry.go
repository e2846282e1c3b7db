package member

import (
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/consensus"
)

// Bounds of what a primary proposes by itself.
const (
	// expiryRate is how many leases end in a second at most: 100,000 that are due at once are gone in a little over six
	// seconds.
	expiryRate = 16_000
	// expiryPause is the least time between two rounds. A round delays the puts that meet it by about a sync of the log:
	// rounds that are few and large cost clients less.
	expiryPause = 8 * time.Millisecond
	// endingMax is how many may be on their way through the log: enough for the rate when overload makes that way an
	// eighth of a second long. Puts may have to wait for all of them.
	endingMax = 2048
	// savedMax is how much of the rate a round may make up for when it comes late.
	savedMax = 40 * time.Millisecond
	// burstMax is how many end at once when none was due before.
	burstMax = expiryRate * int(expiryPause) / int(time.Second)
)

// pace says how many leases may end: time earns them, up to savedMax of it.
type pace struct {
	last   time.Duration
	earned time.Duration
	busy   bool // some were due when it was last asked
}

// expiryCost is the time that earns one.
const expiryCost = time.Second / expiryRate

// rest notes that none is due.
func (p *pace) rest() { p.busy = false }

// may returns how many may end now.
func (p *pace) may(now time.Duration) int {
	if !p.busy {
		*p = pace{last: now, earned: time.Duration(burstMax) * expiryCost, busy: true}
	}
	p.earned = min(p.earned+now-p.last, savedMax)
	p.last = now
	return int(p.earned / expiryCost)
}

// spend notes that n have.
func (p *pace) spend(n int) { p.earned -= time.Duration(n) * expiryCost }

// expire proposes the end of leases that are due, in rounds, each with leadership confirmed.
func (l *lessor) expire(term uint64, now time.Duration) (wait time.Duration, sooner <-chan struct{}) {
	next, due := l.untilDue(now)
	if !due {
		l.pace.rest()
		l.asked = nil // an answer from before the next lease is due is worth nothing
		return next, nil
	}
	if now < l.hold || l.m.node.SyncStalled() || l.m.Alarms().Active(cluster.AlarmCorrupt) {
		l.asked = nil
		return lessorRetry, nil
	}
	may := min(l.pace.may(now), l.flow.may(now, l.underWay()))
	if may == 0 {
		return expiryPause, nil
	}
	ok, answer := l.confirm(term, false)
	switch {
	case answer != nil:
		return lessorIdle, answer
	case !ok:
		return lessorRetry, nil
	}
	// What has fallen due since the question waits for the next one.
	begun := l.beginEnding(min(now, l.askedAt), may)
	l.pace.spend(len(begun))
	l.flow.begin(len(begun))
	for i, x := range begun {
		if err := l.proposeEnd(term, x); err != nil {
			for _, y := range begun[i:] {
				l.failEnding(term, y, y.at)
			}
			return lessorRetry, nil
		}
	}
	return expiryPause, nil
}

// underWay returns how many leases are on their way to their end.
func (l *lessor) underWay() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ending)
}

// untilDue says whether a lease is due, and otherwise how long to wait for one.
func (l *lessor) untilDue(now time.Duration) (wait time.Duration, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, at, ok := l.deadlines.First()
	if !ok {
		return lessorIdle, false
	}
	return min(at-now, lessorIdle), at <= now
}

// begun is a lease that is about to end.
type begun struct {
	id int64
	*ending
}

// beginEnding takes those that are due first from the deadlines, most of them at most.
func (l *lessor) beginEnding(now time.Duration, most int) (out []begun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(out) < most && len(l.ending) < endingMax {
		id, at, ok := l.deadlines.First()
		if !ok || at > now {
			break
		}
		l.deadlines.Remove(id)
		l.checkpoints.Remove(id)
		e := &ending{at: at, done: make(chan struct{})}
		l.ending[id] = e
		out = append(out, begun{id, e})
	}
	return out
}

func (l *lessor) proposeEnd(term uint64, x begun) error {
	raw, err := proto.Marshal(&etcdserverpb.LeaseRevokeRequest{ID: x.id})
	if err != nil {
		return err
	}
	id := l.m.ids.next()
	if !l.expectEnd(term, id, x) {
		return nil
	}
	return l.m.node.Propose(&consensus.Proposal{
		Data:   apply.Encode(headerOf(id, l.m.itself()), apply.CommandLeaseRevoke, raw),
		Urgent: true,
		Fail:   func(error) { l.failEnding(term, x, x.at) },
		// Nothing that this primary decided goes into the log of a later term.
		LeaderTerm: term,
	})
}

// expectEnd registers for the result of a LeaseRevoke: an alarm that came before it in the log may refuse it, or a change of
// who may do what. It reports whether the lease is still to end.
func (l *lessor) expectEnd(term, request uint64, x begun) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term || l.ending[x.id] != x.ending {
		return false
	}
	x.w = l.m.waiters.registerFor(request, func(r apply.Result) {
		if r.Err != nil { // otherwise noticed was told before, and nobody waits any more
			l.failEnding(term, x, l.now()+lessorIdle)
		}
	})
	return true
}

// failEnding gives a lease a deadline again: the round after it tries anew.
func (l *lessor) failEnding(term uint64, x begun, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term != term || l.ending[x.id] != x.ending {
		return
	}
	delete(l.ending, x.id)
	l.forgetLocked(x.ending)
	l.deadlines.Set(x.id, at)
}
