package member

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// compactSlice is how many history records one slice of compaction looks at. At
// a few microseconds a record a slice stays in the low milliseconds.
const compactSlice = 512

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
		done, err = g.store.CompactStep(c.ctx, compactSlice)
		return err
	})
	if errors.Is(err, mvcc.ErrRetired) {
		return true, nil // replaced meanwhile: go on with the new one
	}
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
	c.notify()
	for {
		select {
		case <-c.wake:
		case <-c.m.stop:
			return
		}
		for more := true; more; {
			select {
			case <-c.m.stop:
				return
			default:
			}
			var err error
			if more, err = c.step(); err != nil {
				if c.ctx.Err() == nil {
					c.m.fatal(err)
				}
				return
			}
		}
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
