package member

import (
	"context"
	"fmt"
)

// defragment is a rewriting of the state that is under way; all who ask for one meanwhile wait for it.
type defragment struct {
	done chan struct{} // closed when err is set
	err  error
}

// Defragment rewrites the whole state in the background, so that what was deleted takes no space any more, while
// requests are served as ever. Calls during one that runs share it. It goes on when ctx ends; only the waiting
// ends then.
func (m *Member) Defragment(ctx context.Context) error {
	d, err := m.maintenance.defragment()
	if err != nil {
		return err
	}
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// defragment returns the one that runs, or starts one.
func (x *maintenance) defragment() (*defragment, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.ended:
		return nil, ErrStopped
	case x.defrag != nil:
		return x.defrag, nil
	}
	d := &defragment{done: make(chan struct{})}
	x.defrag = d
	x.work.Go(func() {
		err := x.rewrite()
		x.mu.Lock()
		x.defrag = nil
		x.mu.Unlock()
		d.err = err
		close(d.done)
	})
	return d, nil
}

func (x *maintenance) rewrite() error {
	clk, log := x.m.cfg.Clock, x.m.cfg.Logger
	begin := clk.Now()
	x.m.measures.Defragmenting.Store(true)
	defer x.m.measures.Defragmenting.Store(false)
	log.Info("defragmenting the state")
	var before, after uint64
	err := x.m.held(func(g *generation) error {
		before = g.db.Metrics().DiskBytes
		// What is in memory yet may hide what is below it.
		if err := g.db.Flush(); err != nil {
			return err
		}
		err := g.db.CompactAll(x.ctx)
		after = g.db.Metrics().LiveBytes // the tables that it has replaced are removed a moment later
		return err
	})
	switch {
	case x.ctx.Err() != nil:
		return ErrStopped
	case err != nil:
		return fmt.Errorf("defragment: %w", err)
	}
	x.m.measures.Defragments.Took(clk.Now().Sub(begin))
	log.Info("defragmented the state", "took", clk.Now().Sub(begin), "bytes-before", before, "bytes-after", after)
	return nil
}
