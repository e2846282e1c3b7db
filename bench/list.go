package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Lengths of the values in lists, of the size of pods of Kubernetes: these are listed in pages, and all at once.
const (
	pagedBytes  = 4 << 10
	listedBytes = 8 << 10
)

// listScenarios are about lists of large values, on one member.
func listScenarios() []Scenario {
	return []Scenario{
		{Name: fmt.Sprintf("list, page of %d values of %d KiB", pageKeys, pagedBytes>>10), Shape: one, Primary: CPU, Slow: true, run: listPageRun},
		{Name: fmt.Sprintf("list, all values of %d KiB at once", listedBytes>>10), Shape: one, Primary: Took, Slow: true, run: listAllRun},
	}
}

// list is some keys with values of one length.
type list struct {
	bytes, keys int
}

func (l list) key(i int) string { return fmt.Sprintf("/registry/list/%d/%09d", l.bytes, i) }

// end is behind all keys of the list.
func (l list) end() string { return fmt.Sprintf("/registry/list/%d0", l.bytes) }

// list returns the list with values of so many bytes. It is written once on each server, and not in the order of its keys: objects are updated in none.
func (r *rig) list(ctx context.Context, bytes int) (list, error) {
	l := list{bytes, max(20, r.keys/10)}
	if slices.Contains(r.lists, bytes) {
		return l, nil
	}
	order := rand.New(rand.NewPCG(1, 2)).Perm(l.keys)
	err := r.write(ctx, l.keys, func(i int) clientv3.Op { return clientv3.OpPut(l.key(order[i]), string(value(order[i], bytes))) })
	if err != nil {
		return l, err
	}
	r.lists = append(r.lists, bytes)
	return l, nil
}

// check says whether an answer has n keys, each with a whole value.
func (l list) check(g *clientv3.GetResponse, n int) error {
	if len(g.Kvs) != n {
		return fmt.Errorf("%d keys were read, of %d", len(g.Kvs), n)
	}
	for _, kv := range g.Kvs {
		if len(kv.Value) != l.bytes {
			return fmt.Errorf("%s has %d bytes, of %d", kv.Key, len(kv.Value), l.bytes)
		}
	}
	return nil
}

// listPageRun reads pages of the list, each with the count of all that follow.
func listPageRun(ctx context.Context, r *rig) Turn {
	l, err := r.list(ctx, pagedBytes)
	if err != nil {
		return failedTurn(err)
	}
	return r.loop(ctx, 16, max(16, r.sizes.One/10), func(ctx context.Context, c *clientv3.Client, _ int) error {
		first := rand.IntN(max(1, l.keys-pageKeys))
		g, err := c.Get(ctx, l.key(first), clientv3.WithRange(l.end()), clientv3.WithLimit(pageKeys))
		if err != nil {
			return err
		}
		if g.Count != int64(l.keys-first) {
			return fmt.Errorf("a page counts %d keys, of %d", g.Count, l.keys-first)
		}
		return l.check(g, min(pageKeys, l.keys-first))
	})
}

// listAllRun reads all of a list in one answer, some times. Took is the time of one.
func listAllRun(ctx context.Context, r *rig) Turn {
	const times = 5
	l, err := r.list(ctx, listedBytes)
	if err != nil {
		return failedTurn(err)
	}
	t := r.loop(ctx, 1, times, func(ctx context.Context, c *clientv3.Client, _ int) error {
		g, err := c.Get(ctx, l.key(0), clientv3.WithRange(l.end()))
		if err != nil {
			return err
		}
		return l.check(g, l.keys)
	})
	t = wholeTurn(t)
	t.Metrics[Took] /= times
	return t
}
