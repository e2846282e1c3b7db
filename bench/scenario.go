package main

import (
	"context"
	"fmt"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Scenario is one line of the table.
type Scenario struct {
	Name  string
	Shape Shape
	// Primary is what the line is about; its ratio decides whether the line is ahead.
	Primary Metric
	// Loaded asks for all keys, not a tenth.
	Loaded bool
	// Slow scenarios run fewer rounds.
	Slow bool
	run  func(ctx context.Context, r *rig) Turn
}

// group is what scenarios have in common that run on the same servers, one after another.
type group struct {
	shape  Shape
	loaded bool
}

func (s *Scenario) group() group { return group{s.Shape, s.Loaded} }

// title is the line's name in the table.
func (s *Scenario) title() string { return s.Name + " · " + s.Shape.String() }

// rig is what a scenario works on: one server in one shape, loaded with keys.
type rig struct {
	*cluster
	sizes Sizes
	keys  int
	trace []traceLine // nil without one
	round int
	lists []int // sizes of the values in the lists that it has
}

// clientOf is the connection of one of the clients.
func clientOf(pool []*clientv3.Client, client int) *clientv3.Client { return pool[client%len(pool)] }

// loop measures a closed loop of stock clients.
func (r *rig) loop(ctx context.Context, clients, n int, do func(ctx context.Context, c *clientv3.Client, i int) error) Turn {
	pool, err := r.pool(clients)
	if err != nil {
		return failedTurn(err)
	}
	if err := warm(ctx, pool); err != nil {
		return failedTurn(err)
	}
	return r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		return closedLoop(ctx, clients, n, r.sizes.Most, func(ctx context.Context, client, i int) error {
			return do(ctx, clientOf(pool, client), i)
		}), nil
	})
}

// warm has every connection made before anything is measured.
func warm(ctx context.Context, pool []*clientv3.Client) error {
	for _, c := range pool {
		if err := bounded(ctx, func(ctx context.Context) error { _, err := c.Get(ctx, "/"); return err }); err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
	}
	return nil
}

// load writes the keys of the rig, in transactions.
func (r *rig) load(ctx context.Context) error {
	return r.write(ctx, r.keys, func(i int) clientv3.Op { return clientv3.OpPut(loadKey(i), string(value(i, valueBytes))) })
}

// write carries out n puts, in transactions and without measuring.
func (r *rig) write(ctx context.Context, n int, put func(i int) clientv3.Op) error {
	const clients = 16
	pool, err := r.pool(clients)
	if err != nil {
		return err
	}
	txns := (n + loadTxn - 1) / loadTxn
	t := closedLoop(ctx, clients, txns, preparePatience, func(ctx context.Context, client, i int) error {
		var ops []clientv3.Op
		for k := i * loadTxn; k < min((i+1)*loadTxn, n); k++ {
			ops = append(ops, put(k))
		}
		_, err := clientOf(pool, client).Txn(ctx).Then(ops...).Commit()
		return err
	})
	if t.first != nil {
		return fmt.Errorf("loading %d keys into %s: %w", n, r.program.Name, t.first)
	}
	if t.operations != txns {
		return fmt.Errorf("loading %d keys into %s: it took longer than %v", n, r.program.Name, preparePatience)
	}
	return nil
}

// scenarios are all lines, those of one group one after another.
func scenarios() []Scenario {
	var order []group
	byGroup := map[group][]Scenario{}
	for _, s := range slices.Concat(storeScenarios(), requestScenarios(), frameScenarios(), watchScenarios(), listScenarios(), clusterScenarios()) {
		g := s.group()
		if byGroup[g] == nil {
			order = append(order, g)
		}
		byGroup[g] = append(byGroup[g], s)
	}
	var all []Scenario
	for _, g := range order {
		all = append(all, byGroup[g]...)
	}
	return all
}
