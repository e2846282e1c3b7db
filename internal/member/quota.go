package member

import (
	"context"
	"errors"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// memberCost is what a member of the cluster counts against the quota. Like leases, members are counted by the number.
const memberCost = 1024

// quota keeps the state below Config.QuotaBytes. A request that may need more space is refused before it is proposed;
// what got past that, because several came at once or another member proposed it, is applied: the members must apply
// alike, whatever their quotas are. In both cases the alarm NOSPACE of this member goes into the log, and it alone makes apply
// refuse. It stays until somebody lowers it.
type quota struct {
	m     *Member
	limit int64 // 0 or less: none
	wake  chan struct{}
	over  bool // as of the last look; the apply goroutine's

	mu      sync.Mutex
	raising chan struct{} // closed when the proposal under way has ended; nil when there is none
}

func (q *quota) init(m *Member) {
	q.m, q.limit, q.wake = m, m.cfg.QuotaBytes, make(chan struct{}, 1)
	q.over = q.limit > 0 && m.gen.Load().inUse() >= q.limit
}

// inUse returns what counts against the quota: all versions of keys, and a bit for leases and members.
func (g *generation) inUse() int64 {
	return g.store.SizeInUse() + leaseCost*int64(g.leases.Len()) + memberCost*int64(g.members.Len())
}

// notify is called by apply after each group. Only what makes the state too large raises the alarm: one that somebody
// lowered stays down until a request needs space.
func (q *quota) notify() {
	if q.limit <= 0 {
		return
	}
	over := q.m.gen.Load().inUse() >= q.limit
	if over && !q.over {
		q.raise()
	}
	q.over = over
}

// raise has the alarm raised by run; the channel is closed when that has ended, well or not.
func (q *quota) raise() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.raising == nil {
		q.raising = make(chan struct{})
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return q.raising
}

func (q *quota) run() {
	for {
		select {
		case <-q.wake:
		case <-q.m.stop:
			return
		}
		// A member that stops ends all proposals.
		if err := q.propose(context.Background()); err != nil && !errors.Is(err, ErrStopped) {
			q.m.cfg.Logger.Warn("cannot raise the alarm NOSPACE yet", "error", err)
		}
		q.mu.Lock()
		close(q.raising)
		q.raising = nil
		q.mu.Unlock()
	}
}

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
// when the quota has no room for it, after the alarm was raised or could not be.
func (m *Member) CheckSpace(ctx context.Context, cost int64) error {
	q := &m.quota
	if q.limit <= 0 || cost <= 0 || m.gen.Load().inUse()+cost < q.limit {
		return nil
	}
	if m.Alarms().Has(cluster.Alarm{Member: m.self(), Type: cluster.AlarmNoSpace}) {
		return apply.ErrNoSpace
	}
	select {
	case <-q.raise():
	case <-ctx.Done():
	case <-m.stop:
	case <-m.node.Done():
	}
	return apply.ErrNoSpace
}

// Alarms returns the alarms as applied here.
func (m *Member) Alarms() *cluster.Alarms { return m.gen.Load().alarms }
