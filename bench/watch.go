package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// watchScenarios are about watches and leases, on one member.
func watchScenarios() []Scenario {
	all := []Scenario{
		{Name: "watch, from the put to its event", Primary: P50, run: watchRun},
		{Name: "fan-out of an event to many watchers", Primary: CPU, run: fanOutRun},
		{Name: "late watchers catch up", Primary: Rate, Slow: true, run: catchUpRun},
		{Name: "leases kept alive, 64 clients", Primary: CPU, Slow: true, run: keepAliveRun},
		{Name: "leases expire, each with a key", Primary: Took, Slow: true, run: expiryRun},
		{Name: "Kubernetes day", Primary: CPU, Slow: true, run: kubernetesRun},
	}
	for i := range all {
		all[i].Shape = one
	}
	return all
}

// watching is one stream of watches.
type watching struct {
	etcdserverpb.Watch_WatchClient
	cancel context.CancelFunc
}

// watchOn opens a stream and creates n watchers of a key, or of all keys with it as a prefix, from a revision on.
func watchOn(ctx context.Context, c *clientv3.Client, key string, prefix bool, from int64, n int) (*watching, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := etcdserverpb.NewWatchClient(c.ActiveConnection()).Watch(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("opening a watch stream: %w", err)
	}
	w := &watching{s, cancel}
	create := &etcdserverpb.WatchCreateRequest{Key: []byte(key), StartRevision: from}
	if prefix {
		create.RangeEnd = []byte(clientv3.GetPrefixRangeEnd(key))
	}
	for range n {
		if err := s.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}}); err != nil {
			cancel()
			return nil, fmt.Errorf("creating a watcher: %w", err)
		}
	}
	return w, nil
}

// created waits until n watchers are there. No event may have happened.
func (w *watching) created(n int) error {
	for range n {
		r, err := w.Recv()
		if err != nil {
			return fmt.Errorf("creating a watcher: %w", err)
		}
		if !r.Created || r.Canceled {
			return fmt.Errorf("a watcher was not created: %s", r.CancelReason)
		}
	}
	return nil
}

// events reads until n events have come.
func (w *watching) events(n int) error {
	for n > 0 {
		r, err := w.Recv()
		if err != nil {
			return fmt.Errorf("reading events: %w", err)
		}
		if r.Canceled {
			return fmt.Errorf("a watcher was cancelled: %s", r.CancelReason)
		}
		n -= len(r.Events)
	}
	if n < 0 {
		return errors.New("more events came than there are")
	}
	return nil
}

// watchRun has one client put and wait for the event.
func watchRun(ctx context.Context, r *rig) Turn { return r.fanOut(ctx, 1, 1, r.sizes.One) }

// fanOutRun counts each watcher's event as an operation.
func fanOutRun(ctx context.Context, r *rig) Turn {
	return r.fanOut(ctx, connectionsMax, r.sizes.Watchers, r.sizes.Events)
}

// fanOut has watchers of one key on some streams, and puts it so many times. A latency is the time from a put to the last of its events.
func (r *rig) fanOut(ctx context.Context, streams, watchers, puts int) Turn {
	const key = "/fan-out"
	streams = min(streams, watchers)
	pool, err := r.pool(streams + 1)
	if err != nil {
		return failedTurn(err)
	}
	all := make([]*watching, streams)
	for i := range all {
		n := watchers*(i+1)/streams - watchers*i/streams
		w, err := watchOn(ctx, pool[len(pool)-1-i%len(pool)], key, false, 0, n)
		if err != nil {
			return failedTurn(err)
		}
		defer w.cancel()
		if err := w.created(n); err != nil {
			return failedTurn(err)
		}
		all[i] = w
	}
	turn := r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		var t tally
		begin := time.Now()
		for i := range puts {
			at := time.Now()
			err := bounded(ctx, func(ctx context.Context) error { return r.tellAll(ctx, pool[0], all, key, watchers, i) })
			t.note(time.Since(at), err)
			if err != nil || time.Since(begin) > r.sizes.Most {
				break
			}
		}
		t.elapsed = time.Since(begin)
		return t.times(watchers), nil
	})
	return turn
}

// tellAll puts the key and waits until all watchers have the event. The streams end when the patience does.
func (r *rig) tellAll(ctx context.Context, c *clientv3.Client, all []*watching, key string, watchers, i int) error {
	release := context.AfterFunc(ctx, func() {
		for _, w := range all {
			w.cancel()
		}
	})
	defer release()
	errs := make([]error, len(all))
	var reading sync.WaitGroup
	for s, w := range all {
		n := watchers*(s+1)/len(all) - watchers*s/len(all)
		reading.Go(func() { errs[s] = w.events(n) })
	}
	_, err := c.Put(ctx, key, string(value(i, valueBytes)))
	if err != nil {
		for _, w := range all {
			w.cancel() // no event will come
		}
	}
	reading.Wait()
	return errors.Join(append(errs, err)...)
}

// catchUpPatience bounds how long a late watcher may take for all that it has missed.
const catchUpPatience = 5 * time.Minute

// catchUpRun has ten watchers, on a stream each, start some revisions ago. Each event is an operation.
func catchUpRun(ctx context.Context, r *rig) Turn {
	const late = 10
	prefix := fmt.Sprintf("/late/%d/", r.round)
	pool, err := r.pool(100)
	if err != nil {
		return failedTurn(err)
	}
	g, err := pool[0].Get(ctx, "/")
	if err != nil {
		return failedTurn(err)
	}
	if err := r.fill(ctx, r.sizes.Behind, func(i int) string { return fmt.Sprintf("%s%d", prefix, i) }); err != nil {
		return failedTurn(err)
	}
	return r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		return patientLoop(ctx, catchUpPatience, late, late, r.sizes.Most, func(ctx context.Context, client, _ int) error {
			w, err := watchOn(ctx, clientOf(pool, client), prefix, true, g.Header.Revision+1, 1)
			if err != nil {
				return err
			}
			defer w.cancel()
			if err := w.created(1); err != nil {
				return err
			}
			return w.events(r.sizes.Behind)
		}).times(r.sizes.Behind), nil
	})
}
