package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// disturbed measures puts at a steady rate while disturb is carried out, again and again until the window is over. Before and after,
// the same puts run undisturbed for a window: Stretch is the 99th percentile of the ones divided by that of the others, of both windows.
func (r *rig) disturbed(ctx context.Context, again bool, disturb func(ctx context.Context) error) Turn {
	pool, err := r.pool(16)
	if err != nil {
		return failedTurn(err)
	}
	if err := warm(ctx, pool); err != nil {
		return failedTurn(err)
	}
	// Of the memory that is freed here the system may give some back to its host at once, which can stop everything for a while: that must be over
	// before what is compared.
	r.touch()
	select {
	case <-time.After(r.sizes.Window):
	case <-ctx.Done():
		return failedTurn(context.Cause(ctx))
	}
	vs := values(valueBytes)
	put := func(ctx context.Context, client, i int) error {
		_, err := clientOf(pool, client).Put(ctx, loadKey(rand.IntN(r.keys)), vs[i%len(vs)])
		return err
	}
	undisturbed := func() (tally, error) {
		if err := r.settle(ctx, r.sizes.Settle); err != nil {
			return tally{}, err
		}
		t := r.paced(ctx, put, func(context.Context) error { return nil })
		return t, t.first
	}
	before, err := undisturbed()
	if err != nil {
		return failedTurn(fmt.Errorf("before the disturbance: %w", err))
	}
	var took time.Duration
	turn := r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		var failed error
		t := r.paced(ctx, put, func(ctx context.Context) error {
			begin := time.Now()
			for n := 0; ; {
				if err := disturb(ctx); err != nil {
					failed = err
					return err
				}
				n++
				took = time.Since(begin) / time.Duration(n)
				if !again || time.Since(begin) > r.sizes.Window {
					return nil
				}
			}
		})
		return t, failed
	})
	if turn.failed() {
		return turn
	}
	after, err := undisturbed()
	if err != nil {
		return failedTurn(fmt.Errorf("after the disturbance: %w", err))
	}
	calm := slices.Sorted(slices.Values(slices.Concat(before.latencies, after.latencies)))
	if p := percentile(calm, 0.99).Seconds(); p > 0 {
		turn.Metrics[Stretch] = turn.Metrics[P99] / p
	}
	turn.Metrics[Took] = took.Seconds()
	delete(turn.Metrics, Rate) // it is what was asked for
	return turn
}

// disturbancePatience bounds a disturbance.
const disturbancePatience = 15 * time.Minute

// paced puts at the pace of the run while beside runs, and for one window at least.
func (r *rig) paced(ctx context.Context, put operation, beside func(ctx context.Context) error) tally {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		besideCtx, cancel := context.WithTimeout(ctx, disturbancePatience)
		defer cancel()
		window := time.NewTimer(r.sizes.Window)
		defer window.Stop()
		err := beside(besideCtx)
		select {
		case <-window.C:
		case <-ctx.Done():
		}
		close(stop)
		ended <- err
	}()
	t := openLoop(ctx, r.sizes.Pace, stop, put)
	if err := <-ended; err != nil {
		t.note(0, err)
	}
	return t
}

// compactionRun writes every key again and compacts away what was before.
func compactionRun(ctx context.Context, r *rig) Turn {
	if err := r.load(ctx); err != nil {
		return failedTurn(err)
	}
	pool, err := r.pool(1)
	if err != nil {
		return failedTurn(err)
	}
	g, err := pool[0].Get(ctx, loadKey(0))
	if err != nil {
		return failedTurn(err)
	}
	return r.disturbed(ctx, false, func(ctx context.Context) error {
		_, err := pool[0].Compact(ctx, g.Header.Revision, clientv3.WithCompactPhysical())
		if err != nil {
			return fmt.Errorf("compacting: %w", err)
		}
		return nil
	})
}

func defragmentationRun(ctx context.Context, r *rig) Turn {
	pool, err := r.pool(1)
	if err != nil {
		return failedTurn(err)
	}
	return r.disturbed(ctx, true, func(ctx context.Context) error {
		if _, err := pool[0].Defragment(ctx, r.members[0].client); err != nil {
			return fmt.Errorf("defragmenting: %w", err)
		}
		return nil
	})
}

func snapshotRun(ctx context.Context, r *rig) Turn {
	return r.disturbed(ctx, true, func(ctx context.Context) error {
		n, err := otherReads(ctx, r.members[0].client)
		if err == nil && n < int64(r.keys) {
			err = fmt.Errorf("it has %d bytes only", n)
		}
		if err != nil {
			return fmt.Errorf("reading a snapshot: %w", err)
		}
		return nil
	})
}
