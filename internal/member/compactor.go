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
// is some tenths of a millisecond, no more than a sync of the log.
const compactSlice = 128

// restMax bounds the rest after one slice.
const restMax = 100 * time.Millisecond

// restAfter is how long the compactor rests after a slice that took that long. While clients ask for anything it takes a seventh of one core, and
// less when others keep it waiting; the storage has several times that work with what it deletes, and rests on its own. While nobody asks it
// works half of the time, so that the storage, which writes what is deleted to the disk, keeps up, and whoever asks next does not wait for that.
func restAfter(slice time.Duration, busy bool) time.Duration {
	if busy {
		slice *= 6
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
			if more && !c.rest(rests.Next(restAfter(took, demand.Busy(start.Add(took)))), &rests) {
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
