package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// storeScenarios are about a store with all keys in it, on one member.
func storeScenarios() []Scenario {
	all := []Scenario{
		{Name: "memory at rest", Primary: Rest, run: restRun},
		{Name: "start after a clean stop", Primary: Took, run: startRun(syscall.SIGTERM)},
		{Name: "start after a kill", Primary: Took, run: startRun(syscall.SIGKILL)},
		{Name: "get of all keys, 1,000 clients", Primary: CPU, run: getRun(1000)},
		{Name: fmt.Sprintf("page of %d with its count", pageKeys), Primary: CPU, run: pageRun},
		{Name: "full range", Primary: Took, Slow: true, run: fullRun(1)},
		{Name: "full range as a stream", Primary: Took, Slow: true, run: streamRun},
		{Name: "five full ranges at once", Primary: Peak, Slow: true, run: fullRun(5)},
		{Name: "put of all keys, 1,000 clients", Primary: CPU, run: putRun(1000, valueBytes)},
		{Name: "puts beside a compaction", Primary: P99, Slow: true, run: compactionRun},
		{Name: "puts beside a defragmentation", Primary: P99, Slow: true, run: defragmentationRun},
		{Name: "puts beside a snapshot", Primary: P99, Slow: true, run: snapshotRun},
	}
	for i := range all {
		all[i].Shape, all[i].Loaded = one, true
	}
	return all
}

// restRun reads the memory once nothing happens.
func restRun(ctx context.Context, r *rig) Turn {
	if err := r.settle(ctx, r.sizes.Settle); err != nil {
		return failedTurn(err)
	}
	rest, err := r.memory(residentBytes)
	if err != nil {
		return failedTurn(err)
	}
	return Turn{Operations: 1, Metrics: map[Metric]float64{Rest: rest}}
}

// startRun ends the member and measures from its start to the first answer to a linearizable read of a key that is there.
func startRun(end syscall.Signal) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		if err := r.settle(ctx, r.sizes.Settle); err != nil {
			return failedTurn(err)
		}
		r.disconnect()
		m := r.members[0]
		if end == syscall.SIGKILL {
			m.kill()
		} else if err := m.stop(); err != nil {
			return failedTurn(err)
		}
		begin := time.Now()
		if err := m.start(); err != nil {
			return failedTurn(err)
		}
		if _, err := r.waitServing(ctx, 0, "/", nil); err != nil {
			return failedTurn(err)
		}
		took := time.Since(begin)
		cpu, err := cpuTime(m.pid())
		if err != nil {
			return failedTurn(err)
		}
		peak, err := r.memory(peakBytes)
		if err != nil {
			return failedTurn(err)
		}
		if err := r.checkLoaded(ctx); err != nil {
			return failedTurn(err)
		}
		return Turn{Operations: 1, Metrics: map[Metric]float64{Took: took.Seconds(), CPU: cpu.Seconds(), Peak: peak}}
	}
}

// checkLoaded fails unless all loaded keys are there.
func (r *rig) checkLoaded(ctx context.Context) error {
	pool, err := r.pool(1)
	if err != nil {
		return err
	}
	var g *clientv3.GetResponse
	err = bounded(ctx, func(ctx context.Context) (err error) {
		g, err = pool[0].Get(ctx, loadKey(0), clientv3.WithRange(loadEnd), clientv3.WithCountOnly())
		return err
	})
	if err != nil {
		return fmt.Errorf("counting the keys: %w", err)
	}
	if g.Count != int64(r.keys) {
		return fmt.Errorf("%d keys are there, of %d that were loaded", g.Count, r.keys)
	}
	return nil
}

// loadEnd is behind all loaded keys.
const loadEnd = "/registry/load/default0"

// pageRun reads pages as kube-apiserver lists: from a key on, with the count of all that follow.
func pageRun(ctx context.Context, r *rig) Turn {
	return r.loop(ctx, 16, max(16, r.sizes.One/4), func(ctx context.Context, c *clientv3.Client, _ int) error {
		first := rand.IntN(max(1, r.keys-pageKeys))
		g, err := c.Get(ctx, loadKey(first), clientv3.WithRange(loadEnd), clientv3.WithLimit(pageKeys))
		if err != nil {
			return err
		}
		if want := min(pageKeys, r.keys-first); len(g.Kvs) != want || g.Count != int64(r.keys-first) {
			return fmt.Errorf("a page has %d keys of %d, where there are %d of %d", len(g.Kvs), g.Count, want, r.keys-first)
		}
		return nil
	})
}

// fullRun reads all keys in one answer, by so many clients at once. Took is the time until the last one has its answer.
func fullRun(clients int) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		t := r.loop(ctx, clients, clients, func(ctx context.Context, c *clientv3.Client, _ int) error {
			g, err := c.Get(ctx, loadKey(0), clientv3.WithRange(loadEnd))
			if err == nil && len(g.Kvs) != r.keys {
				err = fmt.Errorf("%d keys were read, of %d", len(g.Kvs), r.keys)
			}
			return err
		})
		return wholeTurn(t)
	}
}

// wholeTurn shows a turn of few long operations as the time that all have taken; percentiles of them say nothing.
func wholeTurn(t Turn) Turn {
	if rate := t.Metrics[Rate]; rate > 0 {
		t.Metrics[Took] = float64(t.Operations) / rate
	}
	for _, m := range []Metric{Rate, P50, P99, P999} {
		delete(t.Metrics, m)
	}
	return t
}

// streamRun reads all keys as a stream of parts.
func streamRun(ctx context.Context, r *rig) Turn {
	t := r.loop(ctx, 1, 1, func(ctx context.Context, c *clientv3.Client, _ int) error {
		parts, err := c.GetStream(ctx, loadKey(0), clientv3.WithRange(loadEnd))
		if err != nil {
			return err
		}
		n := 0
		for p := range parts {
			if err := p.Err(); err != nil {
				return err
			}
			n += len(p.Kvs)
		}
		if n != r.keys {
			return fmt.Errorf("%d keys were read, of %d", n, r.keys)
		}
		return nil
	})
	return wholeTurn(t)
}
