package member

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// AutoCompaction says how much history a leader keeps when it compacts by itself. The zero value keeps all; at most one
// field is set.
type AutoCompaction struct {
	// Period keeps the history of that time, at least (--auto-compaction-mode=periodic).
	Period time.Duration
	// Revisions keeps that many of the newest revisions (--auto-compaction-mode=revision).
	Revisions int64
}

// retention decides when to compact, and to what. One goroutine uses it.
type retention interface {
	// every is the time between two calls of due.
	every() time.Duration
	// due is told the time, the present revision and whether this member is the leader, and returns the revision to
	// compact to; ok is false when it is not time for one.
	due(now time.Time, current int64, leads bool) (rev int64, ok bool)
	// done is told that the history up to rev is compacted, be it by another. now is that of the call of due that returned rev.
	done(now time.Time, rev int64)
}

// newRetention returns the retention that a asks for, nil for none. current is the revision at the time of now.
func newRetention(a AutoCompaction, now time.Time, current int64) retention {
	switch {
	case a.Period > 0:
		return newKeepTime(a.Period, now, current)
	case a.Revisions > 0:
		return &keepRevisions{keep: a.Revisions}
	}
	return nil
}

const (
	// compactAtLeast is the longest time between two compactions of keepTime, whatever it keeps.
	compactAtLeast = time.Hour
	// samplesPerCompaction is how often keepTime notes the revision between two compactions.
	samplesPerCompaction = 10
	// sampleMin bounds the work of a period that is next to nothing.
	sampleMin = time.Millisecond
	// revisionsEvery is the time between two compactions of keepRevisions.
	revisionsEvery = 5 * time.Minute
)

// keepTime keeps the history of a period, with etcd's timing: the first compaction comes after one period, the next ones
// after a period or an hour each, whichever is shorter. What it compacts to is the oldest of the revisions that it
// noted, which may be a tenth of that time older than the period.
type keepTime struct {
	sample   time.Duration
	interval time.Duration // between two compactions
	wait     time.Duration // what must have passed since the last one
	notedMax int
	noted    []int64 // the oldest first
	last     int64   // compacted to
	at       time.Time
}

func newKeepTime(period time.Duration, now time.Time, current int64) *keepTime {
	k := &keepTime{interval: min(period, compactAtLeast), wait: period, at: now}
	k.sample = max(k.interval/samplesPerCompaction, sampleMin)
	k.notedMax = int(period/k.sample) + 1
	k.noted = []int64{current}
	return k
}

func (k *keepTime) every() time.Duration { return k.sample }

func (k *keepTime) due(now time.Time, current int64, leads bool) (rev int64, ok bool) {
	rev = k.noted[0]
	if k.noted = append(k.noted, current); len(k.noted) > k.notedMax {
		k.noted = k.noted[1:]
	}
	if !leads || now.Sub(k.at)+k.sample/2 < k.wait || rev == k.last { // a tick may come a little early, or the one before late
		return 0, false
	}
	k.wait = k.interval
	return rev, true
}

func (k *keepTime) done(now time.Time, rev int64) { k.last, k.at = rev, now }

// keepRevisions keeps the newest revisions.
type keepRevisions struct {
	keep, last int64
}

func (k *keepRevisions) every() time.Duration { return revisionsEvery }

func (k *keepRevisions) due(_ time.Time, current int64, leads bool) (rev int64, ok bool) {
	rev = current - k.keep
	return rev, leads && rev > 0 && rev != k.last
}

func (k *keepRevisions) done(_ time.Time, rev int64) { k.last = rev }

// autoCompact compacts the history as AutoCompaction says, as long as this member is the leader. A compaction that
// fails is logged and tried again at the next occasion.
func (m *Member) autoCompact() {
	if m.cfg.AutoCompaction == (AutoCompaction{}) || !m.waitReplayed(context.Background()) {
		return
	}
	keep := newRetention(m.cfg.AutoCompaction, m.cfg.Clock.Now(), m.Store().Revision())
	ticker := m.cfg.Clock.NewTicker(keep.every())
	defer ticker.Stop()
	m.cfg.Logger.Info("compacting automatically", "period", m.cfg.AutoCompaction.Period, "revisions", m.cfg.AutoCompaction.Revisions)
	for {
		select {
		case now := <-ticker.C():
			m.autoCompactOnce(keep, now)
		case <-m.stop:
			return
		case <-m.node.Done():
			return
		}
	}
}

func (m *Member) autoCompactOnce(keep retention, now time.Time) {
	rev, ok := keep.due(now, m.Store().Revision(), m.node.IsLeader())
	if !ok {
		return
	}
	err := m.proposeCompaction(rev)
	if err != nil && !errors.Is(err, mvcc.ErrCompacted) {
		m.cfg.Logger.Warn("automatic compaction failed", "revision", rev, "error", err)
		return
	}
	keep.done(now, rev) // by the ticks: the time that it took would make the next compaction wait for a tick more
	m.cfg.Logger.Info("automatic compaction", "revision", rev)
}

// proposeCompaction ends when the member stops, or with RequestTimeout.
func (m *Member) proposeCompaction(rev int64) error {
	raw, err := proto.Marshal(&etcdserverpb.CompactionRequest{Revision: rev})
	if err != nil {
		return err
	}
	_, err = m.Propose(context.Background(), apply.CommandCompaction, raw)
	return err
}
