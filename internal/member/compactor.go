package member

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/pacing"
)

// compactSlice is how many history records one slice of compaction looks at. The batches of slices and of apply
// become visible in one order, so apply may have to wait for a slice: at one or two microseconds a record that
// is a tenth of a millisecond, less than a sync of the log.
const compactSlice = 64

// restMax bounds the rest after one slice.
const restMax = 100 * time.Millisecond

const (
	// restShare is how many times as long as a slice the rest after it is while clients ask for anything, unless the compaction falls behind.
	restShare = 12
	// keepUpEvery is how often that is looked at.
	keepUpEvery = 250 * time.Millisecond
)

// compactPace says how long a compaction rests. While clients ask for anything it takes a thirteenth of one core, and
// less when others keep it waiting; the storage has several times that work with what it deletes, and rests on its own. How fast the compactor goes is how fast
// the storage has to go, and that is what the puts beside it wait for. It belongs to one goroutine.
type compactPace struct {
	share          int64     // restShare, or less while the compaction falls behind
	next           time.Time // of a look
	put, compacted uint64    // changes, as of the last look
}

// newCompactPace begins a compaction; the numbers of changes are those of Store.Progress.
func newCompactPace(now time.Time, put, compacted uint64) *compactPace {
	return &compactPace{restShare, now.Add(keepUpEvery), put, compacted}
}

// keepUp makes rests half as long while the compaction looks at less than twice as many changes as are put meanwhile, and twice as long again once it does
// better: beside enough puts a compaction would else leave more behind than it takes away.
func (p *compactPace) keepUp(now time.Time, put, compacted uint64) {
	if now.Before(p.next) {
		return
	}
	if compacted-p.compacted < 2*(put-p.put) {
		p.share /= 2
	} else {
		p.share = min(2*p.share+1, restShare)
	}
	p.next, p.put, p.compacted = now.Add(keepUpEvery), put, compacted
}

// restAfter is how long to rest after a slice that took that long. While nobody asks the compactor
// works half of the time, so that the storage, which writes what is deleted to the disk, keeps up, and whoever asks next does not wait for that.
func (p *compactPace) restAfter(slice time.Duration, busy bool) time.Duration {
	if busy {
		slice *= time.Duration(p.share)
	}
	return min(slice, restMax)
}

// compactor gives the space of compacted revisions back, slice by slice. apply
// wakes it; a compaction that a crash interrupted goes on at start.
type compactor struct {
	m      *Member
	wake   chan struct{}
	ctx    context.Context // ended by cancel, when the member stops
	cancel context.CancelFunc

	mu   sync.Mutex
	idle chan struct{} // closed while nothing is left to compact
	busy bool
}

func (c *compactor) init(m *Member) {
	c.m, c.wake = m, make(chan struct{}, 1)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.idle = make(chan struct{})
	close(c.idle)
}

// notify tells the compactor that a compaction may have been scheduled. Apply calls it
// after each group, and wait before it waits.
func (c *compactor) notify() {
	if !c.m.gen.Load().store.CompactPending() {
		return
	}
	c.mu.Lock()
	if !c.busy {
		c.busy = true
		c.idle = make(chan struct{})
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// step compacts one slice and reports whether more is left.
func (c *compactor) step() (more bool, err error) {
	var done bool
	err = c.m.held(func(g *generation) (err error) {
		// Events that are on their way to watchers in step may yet need the versions before. Another compaction may come meanwhile.
		upTo := g.store.CompactRevision()
		if err := c.m.hub.WaitDistributed(c.ctx, upTo); err != nil {
			return err
		}
		done, err = g.store.CompactStepTo(c.ctx, upTo, compactSlice)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("compact: %w", err)
	}
	if !done {
		return true, nil
	}
	c.mu.Lock()
	if c.busy && !c.m.gen.Load().store.CompactPending() {
		c.busy = false
		close(c.idle)
	}
	more = c.busy
	c.mu.Unlock()
	return more, nil
}

func (c *compactor) run() {
	select {
	case <-c.m.ready: // what the start applied anew makes no hashes: publish has forgotten them
	case <-c.m.stop:
		return
	}
	c.notify()
	for {
		select {
		case <-c.wake:
		case <-c.m.stop:
			return
		}
		began := c.m.cfg.Clock.Now()
		pending := c.m.gen.Load().store.CompactPending()
		demand, rests := c.m.demand(), pacing.Rests{}
		put, compacted := c.m.gen.Load().store.Progress()
		pace := newCompactPace(began, put, compacted)
		for more := true; more; {
			start := c.m.cfg.Clock.Now()
			var err error
			if more, err = c.step(); err != nil {
				if c.ctx.Err() == nil {
					c.m.fatal(err)
				}
				return
			}
			took := c.m.cfg.Clock.Now().Sub(start)
			if pending {
				c.m.measures.CompactionSlices.Took(took)
			}
			now := start.Add(took)
			put, compacted := c.m.gen.Load().store.Progress()
			pace.keepUp(now, put, compacted)
			if more && !c.rest(rests.Next(pace.restAfter(took, demand.Busy(now))), &rests) {
				return
			}
		}
		if pending {
			now := c.m.cfg.Clock.Now()
			c.m.measures.Compactions.Took(now.Sub(began))
			c.m.measures.CompactionEnded.Store(now.Unix())
		}
	}
}

// rest waits for d, if that is any time, and tells how long it took; false says that the member stops.
func (c *compactor) rest(d time.Duration, rests *pacing.Rests) bool {
	if d <= 0 { // a clock that stands still, too
		return c.ctx.Err() == nil
	}
	begun := c.m.cfg.Clock.Now()
	timer := c.m.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		rests.Took(d, c.m.cfg.Clock.Now().Sub(begun))
		return true
	case <-c.ctx.Done():
		return false
	}
}

// wait returns when nothing is left to compact.
func (c *compactor) wait(ctx context.Context, stopped <-chan struct{}) error {
	c.mu.Lock()
	idle := c.idle
	c.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stopped:
		return ErrStopped
	}
}
