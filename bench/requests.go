package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// requestScenarios are single requests of many clients, on every shape.
func requestScenarios() []Scenario {
	var all []Scenario
	add := func(name string, shape Shape, primary Metric, run func(ctx context.Context, r *rig) Turn) {
		all = append(all, Scenario{Name: name, Shape: shape, Primary: primary, run: run})
	}
	for _, shape := range []Shape{one, oneTLS, three, threeTLS} {
		for _, clients := range []int{1, 100, 1000} {
			add(fmt.Sprintf("put 256 B, %s", clientsText(clients)), shape, primaryOf(clients), putRun(clients, valueBytes))
		}
		for _, size := range []int{4 << 10, 64 << 10} {
			for _, clients := range largeClients(shape) {
				name := fmt.Sprintf("put %d KiB, %s", size>>10, clientsText(clients))
				add(name, shape, primaryOf(clients), putRun(clients, size))
			}
		}
		add("get, 1,000 clients", shape, CPU, getRun(1000))
		if !shape.TLS {
			add("get, 1 client", shape, P50, getRun(1))
			add("serializable get, 1,000 clients", shape, CPU, getRun(1000, clientv3.WithSerializable()))
			add("txn, compare and swap, 100 clients", shape, CPU, swapRun(100))
			add("70 % get, 30 % put, 1,000 clients", shape, CPU, mixedRun(1000))
		}
	}
	add("delete, 100 clients", one, CPU, deleteRun(100))
	return all
}

// largeClients are the numbers of clients that put large values: on one member in the clear as many as of small ones, on the other
// shapes one number.
func largeClients(s Shape) []int {
	if s == one {
		return []int{1, 100, 1000}
	}
	return []int{100}
}

func clientsText(n int) string {
	if n == 1 {
		return "1 client"
	}
	return formatCount(float64(n)) + " clients"
}

// primaryOf: what one client sees is the latency; of many, what they cost.
func primaryOf(clients int) Metric {
	if clients == 1 {
		return P50
	}
	return CPU
}

// operations is how many of them clients do in a turn; large values do fewer.
func (r *rig) operations(clients, size int) int {
	n := r.sizes.Many
	if clients == 1 {
		n = r.sizes.One
	}
	return max(clients, n/max(1, size/(2<<10)))
}

// putRun puts to random ones of the loaded keys, or, with larger values, to some keys beside them.
func putRun(clients, size int) func(ctx context.Context, r *rig) Turn {
	vs := sync.OnceValue(func() []string { return values(size) })
	return func(ctx context.Context, r *rig) Turn {
		keys := r.keys
		if size > valueBytes {
			keys = min(keys, 1000)
		}
		key := func(i int) string {
			if size > valueBytes {
				return fmt.Sprintf("/registry/large/%07d/%08d", size, i)
			}
			return loadKey(i)
		}
		vs := vs()
		t := r.loop(ctx, clients, r.operations(clients, size), func(ctx context.Context, c *clientv3.Client, i int) error {
			_, err := c.Put(ctx, key(rand.IntN(keys)), vs[i%len(vs)])
			return err
		})
		if written, ok := t.Metrics[Written]; ok {
			t.Metrics[Amplified] = written / float64(len(key(0))+size)
		}
		return t
	}
}

// getRun reads random ones of the loaded keys; an answer without the key is an error.
func getRun(clients int, opts ...clientv3.OpOption) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		return r.loop(ctx, clients, r.operations(clients, 0), func(ctx context.Context, c *clientv3.Client, i int) error {
			return getOne(ctx, c, loadKey(rand.IntN(r.keys)), opts...)
		})
	}
}

func getOne(ctx context.Context, c *clientv3.Client, key string, opts ...clientv3.OpOption) error {
	g, err := c.Get(ctx, key, opts...)
	if err != nil {
		return err
	}
	if len(g.Kvs) != 1 || len(g.Kvs[0].Value) != valueBytes {
		return fmt.Errorf("%s is not as it was loaded: %d keys", key, len(g.Kvs))
	}
	return nil
}

// mixedRun reads seven times out of ten and writes three times.
func mixedRun(clients int) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		vs := values(valueBytes)
		return r.loop(ctx, clients, r.operations(clients, 0), func(ctx context.Context, c *clientv3.Client, i int) error {
			key := loadKey(rand.IntN(r.keys))
			if i%10 < 7 {
				return getOne(ctx, c, key)
			}
			_, err := c.Put(ctx, key, vs[i%len(vs)])
			return err
		})
	}
}

// errSwap is returned when a compare fails that nobody has raced with.
var errSwap = errors.New("the compare of a transaction failed, though nobody else writes the key")

// swapRun updates as kube-apiserver does: put if the revision is the one known, and read otherwise. A key has one
// update under way at a time, so that every compare must hold.
func swapRun(clients int) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		vs := values(valueBytes)
		var revisions sync.Map // of each key, as its client knows it
		return r.loop(ctx, clients, r.operations(clients, 0), func(ctx context.Context, c *clientv3.Client, i int) error {
			key := fmt.Sprintf("/registry/swap/%d/%d", r.round, i%(4*clients))
			return swap(ctx, c, &revisions, key, vs[i%len(vs)])
		})
	}
}

// swap carries out one update of a key of which no other is under way.
func swap(ctx context.Context, c *clientv3.Client, revisions *sync.Map, key, value string) error {
	lock, _ := revisions.LoadOrStore(key, &swapped{})
	s := lock.(*swapped)
	s.Lock()
	defer s.Unlock()
	if !s.known {
		g, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		if len(g.Kvs) == 1 {
			s.revision = g.Kvs[0].ModRevision
		}
		s.known = true
	}
	t, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", s.revision)).
		Then(clientv3.OpPut(key, value)).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		s.known = false // whether it was carried out is not known
		return err
	}
	if !t.Succeeded {
		return errSwap
	}
	s.revision = t.Header.Revision
	return nil
}

// swapped is what is known of a key; the lock is held while an update of it is under way.
type swapped struct {
	sync.Mutex
	known    bool
	revision int64
}

// deleteRun deletes keys that were put for it, one by one.
func deleteRun(clients int) func(ctx context.Context, r *rig) Turn {
	return func(ctx context.Context, r *rig) Turn {
		n := r.operations(clients, 0)
		key := func(i int) string { return fmt.Sprintf("/registry/delete/%09d", i) }
		if err := r.fill(ctx, n, key); err != nil {
			return failedTurn(err)
		}
		return r.loop(ctx, clients, n, func(ctx context.Context, c *clientv3.Client, i int) error {
			d, err := c.Delete(ctx, key(i))
			if err == nil && d.Deleted != 1 {
				err = fmt.Errorf("deleting %s: %d keys were deleted", key(i), d.Deleted)
			}
			return err
		})
	}
}

// fill puts n keys, without measuring.
func (r *rig) fill(ctx context.Context, n int, key func(i int) string) error {
	pool, err := r.pool(fillClients)
	if err != nil {
		return err
	}
	return fillThrough(ctx, pool, n, key)
}

const fillClients = 100

// fillThrough puts n keys through some connections.
func fillThrough(ctx context.Context, pool []*clientv3.Client, n int, key func(i int) string) error {
	vs := values(valueBytes)
	t := closedLoop(ctx, fillClients, n, preparePatience, func(ctx context.Context, client, i int) error {
		_, err := clientOf(pool, client).Put(ctx, key(i), vs[i%len(vs)])
		return err
	})
	if t.first == nil && t.operations != n {
		t.first = fmt.Errorf("it took longer than %v", preparePatience)
	}
	if t.first != nil {
		return fmt.Errorf("preparing %d keys: %w", n, t.first)
	}
	return nil
}
