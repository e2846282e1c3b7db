package member

import (
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

// A checkpoint tells the log how much of a long lease is left, so that the next primary does not begin anew. Without
// the feature gate LeaseCheckpoint nobody proposes any.
const (
	// checkpointEvery is how often a lease is checkpointed; one that has less left never is.
	checkpointEvery = 5 * time.Minute
	// checkpointsMax is how many leases one entry holds, checkpointPause the least time between two entries.
	checkpointsMax  = 1000
	checkpointPause = 100 * time.Millisecond
	// takenBackMax is how many renewals may take back a checkpoint as urgent proposals at a time; further ones wait their
	// turn. With what else is urgent that is less than the bound of these.
	takenBackMax = 1024
)

// remaining is what a new primary gives to a lease. What was checkpointed before a restart counts where it lasts over one; otherwise only what this
// process has found in the log.
func (l *lessor) remaining(x lease.Lease, lasts bool) time.Duration {
	_, fresh := l.checkpointed[x.ID]
	if x.Remaining > 0 && l.m.cfg.LeaseCheckpoint && (fresh || lasts) {
		return seconds(x.Remaining)
	}
	return seconds(l.m.raised(x).TTL)
}

// checkpointsLast says whether checkpoints count after a restart: with the feature gate LeaseCheckpointPersist, and in any cluster at 3.6 or above, as in
// etcd. Members before 3.6 that restart without the gate forget them, and do not take them back when a lease is renewed.
func (m *Member) checkpointsLast() bool {
	v, err := m.clusterVersion()
	return m.cfg.LeaseCheckpointPersist || err == nil && !v.LessThan(semver.Version{Major: 3, Minor: 6})
}

// scheduleLocked sets when a lease that has some time left is next checkpointed.
func (l *lessor) scheduleLocked(id int64, now, left time.Duration) {
	switch {
	case !l.m.cfg.LeaseCheckpoint:
	case left > checkpointEvery:
		l.checkpoints.Set(id, now+checkpointEvery)
	default:
		l.checkpoints.Remove(id)
	}
}

// checkpoint proposes the checkpoints that are due, one entry at a time. Nobody waits for them: what is lost comes again.
func (l *lessor) checkpoint(term uint64, now time.Duration) (wait time.Duration) {
	if now-l.noted < checkpointPause || l.m.node.SyncStalled() { // they would pile up
		return checkpointPause
	}
	l.mu.Lock() // until they are proposed: a renewal after them takes them back, which must come behind them
	defer l.mu.Unlock()
	due := l.dueCheckpointsLocked(now)
	if len(due) == 0 {
		return lessorIdle
	}
	l.noted = now
	raw, err := proto.Marshal(&etcdserverpb.LeaseCheckpointRequest{Checkpoints: due})
	if err == nil {
		err = l.m.node.Propose(&consensus.Proposal{
			Data:       apply.Encode(apply.Header{ID: l.m.ids.next()}, apply.CommandLeaseCheckpoint, raw),
			Urgent:     true, // as what takes them back: one urgent proposal does not overtake another
			LeaderTerm: term,
		})
	}
	if err != nil {
		l.m.cfg.Logger.Debug("cannot checkpoint leases now", "error", err)
	}
	return checkpointPause
}

// dueCheckpointsLocked takes up to checkpointsMax of them, and schedules the next ones.
func (l *lessor) dueCheckpointsLocked(now time.Duration) (out []*etcdserverpb.LeaseCheckpoint) {
	for len(out) < checkpointsMax {
		id, at, ok := l.checkpoints.First()
		if !ok || at > now {
			break
		}
		l.checkpoints.Remove(id)
		end, ok := l.deadlines.Get(id)
		if left := end - now; ok && left > 0 {
			// Rounded up: never early.
			out = append(out, &etcdserverpb.LeaseCheckpoint{ID: id, Remaining_TTL: int64((left + time.Second - 1) / time.Second)})
			l.checkpointing[id] = struct{}{}
			l.scheduleLocked(id, now, left)
		}
	}
	return out
}
