package member

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// memberCost is what a member of the cluster counts against the quota. Like leases, members are counted by the number.
const memberCost = 1024

// quotaRetry is how long it rests after an alarm could not be raised.
const quotaRetry = time.Second

// quota keeps the state below Config.QuotaBytes. A request that may need more space is refused before it is proposed;
// what got past that, because several came at once or another member proposed it, is applied: the members must apply
// alike, whatever their quotas are. In both cases the alarm NOSPACE of this member goes into the log, and it alone makes apply
// refuse. It stays until somebody lowers it.
//
// The alarm stops the writes of all members, so it is raised only for a state that is too large now. A member that is behind, after a
// start or an absence, applies once more what used the space up, and only later the compaction that gave it back: it looks
// again when it has caught up and nothing is left to compact.
type quota struct {
	m     *Member
	limit int64 // 0 or less: none
	wake  chan struct{}
	// over says that the state was too large at the last look, and that nothing more is to be done about it. Where what was begun then has ended
	// without the alarm it is set back, with mu held: what is applied next is looked at anew.
	over atomic.Bool

	mu      sync.Mutex
	raising chan struct{} // closed when the second look, or the proposal after it, has ended; nil when there is none
	need    int64         // the most that anybody asked for who waits for that
}

func (q *quota) init(m *Member) {
	q.m, q.limit, q.wake = m, m.cfg.QuotaBytes, make(chan struct{}, 1)
	q.over.Store(q.limit > 0 && !q.fits(0))
}

// inUse returns what counts against the quota: all versions of keys, and a bit for leases and members.
func (g *generation) inUse() int64 {
	return g.store.SizeInUse() + leaseCost*int64(g.leases.Len()) + memberCost*int64(g.members.Len())
}

// notify is called by apply after each group, and once a snapshot has taken the place of the state. Only what makes the state too large raises the alarm: one that somebody
// lowered stays down until a request needs space.
func (q *quota) notify() {
	if q.limit <= 0 {
		return
	}
	over := !q.fits(0)
	if was := q.over.Swap(over); over && !was {
		q.raise(0)
	}
}

// raise has the alarm raised by run, unless there turns out to be room for need bytes more; the channel is closed when that has ended,
// well or not.
func (q *quota) raise(need int64) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.raising == nil {
		q.raising, q.need = make(chan struct{}), 0
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	q.need = max(q.need, need)
	return q.raising
}

func (q *quota) run() {
	for {
		select {
		case <-q.wake:
		case <-q.m.stop:
			return
		}
		if q.look(context.Background()) { // a member that stops ends all reads and proposals
			continue
		}
		retry := q.m.cfg.Clock.NewTimer(quotaRetry)
		select {
		case <-retry.C():
		case <-q.m.stop:
		}
		retry.Stop()
	}
}

// look does what raise has begun. It is false when the alarm could not be raised: what is applied next begins anew.
func (q *quota) look(ctx context.Context) bool {
	err := q.catchUp(ctx)
	if err == nil {
		if q.endIfRoom() {
			q.m.cfg.Logger.Info("no alarm NOSPACE: what used the space quota up is gone by now", "quota_bytes", q.limit)
			return true
		}
		err = q.propose(ctx)
	}
	if err != nil && !errors.Is(err, ErrStopped) {
		q.m.cfg.Logger.Warn("cannot raise the alarm NOSPACE yet", "error", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		q.over.Store(false)
	}
	q.end()
	return err == nil
}

// catchUp returns when everything that is committed by now is applied here, and nothing is left to compact.
func (q *quota) catchUp(ctx context.Context) error {
	if err := q.m.ReadBarrier(ctx); err != nil {
		return err
	}
	q.m.compactor.notify()
	return q.m.compactor.wait(ctx, q.m.stop)
}

// endIfRoom ends what raise has begun if nothing need be raised. Who asks for more from then on begins anew.
func (q *quota) endIfRoom() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.over.Swap(false) // before the look, for what is applied meanwhile
	if !q.fits(q.need) {
		if was {
			q.over.Store(true)
		}
		return false
	}
	q.end()
	return true
}

// end REQUIRES: mu is held.
func (q *quota) end() {
	close(q.raising)
	q.raising = nil
}

// fits says whether there is room for need bytes more; for 0 it says that the quota is not used up.
func (q *quota) fits(need int64) bool { return q.m.gen.Load().inUse()+need < q.limit }

// propose puts the alarm into the log, unless it is raised.
func (q *quota) propose(ctx context.Context) error {
	alarm := cluster.Alarm{Member: q.m.self(), Type: cluster.AlarmNoSpace}
	if q.m.Alarms().Has(alarm) {
		return nil
	}
	q.m.cfg.Logger.Warn("the space quota is used up: raising the alarm NOSPACE",
		"quota_bytes", q.limit, "in_use_bytes", q.m.gen.Load().inUse())
	return q.m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{Alarm: &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(alarm.Member), Alarm: etcdserverpb.AlarmType_NOSPACE,
	}})
}

// CheckSpace says whether a request may be proposed that needs about cost bytes; 0 always may. It returns apply.ErrNoSpace
// when the quota has no room for it, after the alarm was raised or could not be. Where the space is about to be given back it waits
// for that, as long as a proposal may take.
func (m *Member) CheckSpace(ctx context.Context, cost int64) error {
	q := &m.quota
	if q.limit <= 0 || cost <= 0 || q.fits(cost) {
		return nil
	}
	own := cluster.Alarm{Member: m.self(), Type: cluster.AlarmNoSpace}
	if m.Alarms().Has(own) {
		return apply.ErrNoSpace
	}
	timer := m.cfg.Clock.NewTimer(m.cfg.RequestTimeout)
	defer timer.Stop()
	select {
	case <-q.raise(cost):
	case <-timer.C():
	case <-ctx.Done():
	case <-m.stop:
	case <-m.node.Done():
	}
	if !m.Alarms().Has(own) && q.fits(cost) {
		return nil
	}
	return apply.ErrNoSpace
}

// Alarms returns the alarms as applied here.
func (m *Member) Alarms() *cluster.Alarms { return m.gen.Load().alarms }
