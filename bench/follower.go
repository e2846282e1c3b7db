package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// clusterScenarios are about members of a cluster.
func clusterScenarios() []Scenario {
	return []Scenario{
		{Name: "a killed follower recovers, short absence", Shape: three, Primary: Took, Slow: true,
			run: followerRun(func(s Sizes) int { return s.Behind / 100 })},
		{Name: "a killed follower recovers, long absence", Shape: three, Primary: Took, Slow: true,
			run: followerRun(func(s Sizes) int { return s.Behind })},
	}
}

// followerRun kills a follower, puts keys, and measures from the follower's start until it has the last one. After few puts the
// leader sends it what it lacks, after many a snapshot.
func followerRun(behind func(s Sizes) int) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) (turn Turn) {
		if err := r.findLeader(ctx); err != nil {
			return failedTurn(err)
		}
		r.disconnect() // some of the connections are the follower's
		f := (r.leader + 1) % len(r.members)
		m := r.members[f]
		m.kill()
		defer func() {
			if m.running() {
				return
			}
			if err := m.start(); err != nil && !turn.failed() {
				turn = failedTurn(err)
			}
		}()
		marker := fmt.Sprintf("/follower/%d", r.round)
		if err := r.putWithout(ctx, marker, max(1, behind(r.sizes))); err != nil {
			return failedTurn(err)
		}
		return r.recovery(ctx, f, marker)
	}
}

// putWithout puts keys through the leader, and the marker last.
func (r *rig) putWithout(ctx context.Context, marker string, n int) error {
	pool := make([]*clientv3.Client, 8)
	for i := range pool {
		c, err := r.connect(r.leader)
		if err != nil {
			return err
		}
		defer c.Close()
		pool[i] = c
	}
	if err := fillThrough(ctx, pool, n, func(i int) string { return fmt.Sprintf("/follower/%09d", i) }); err != nil {
		return err
	}
	return bounded(ctx, func(ctx context.Context) error {
		_, err := pool[0].Put(ctx, marker, marker)
		return err
	})
}

// recovery starts a member and measures until it has the marker. CPU time and disk are those of all members, the memory its own.
func (r *rig) recovery(ctx context.Context, f int, marker string) Turn {
	m := r.members[f]
	others := *r.cluster
	others.members = append(append([]*member{}, r.members[:f]...), r.members[f+1:]...)
	if err := others.settle(ctx, r.sizes.Settle); err != nil {
		return failedTurn(err)
	}
	before, err := others.usage()
	if err != nil {
		return failedTurn(err)
	}
	begin := time.Now()
	if err := m.start(); err != nil {
		return failedTurn(err)
	}
	if _, err := r.waitServing(ctx, f, marker, []byte(marker)); err != nil {
		return failedTurn(err)
	}
	took := time.Since(begin)
	if err := r.settle(ctx, r.sizes.Settle); err != nil {
		return failedTurn(err)
	}
	after, err := r.usage()
	if err != nil {
		return failedTurn(err)
	}
	peak, err := peakBytes(m.pid())
	if err != nil {
		return failedTurn(err)
	}
	return Turn{Operations: 1, Metrics: map[Metric]float64{
		Took: took.Seconds(), CPU: (after.cpu - before.cpu).Seconds(), Peak: float64(peak), Written: float64(after.written - before.written),
	}}
}
