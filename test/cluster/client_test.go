package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// client does requests on groups of registers, one after the other, and records them.
type client struct {
	*workload
	number int
	rng    *rand.Rand
	group  int
	seen   [groupKeys]register // of the group, as it was when this client last saw it
}

// run works until ctx ends, at another member after each failure and now and then.
func (c *client) run(ctx context.Context) {
	for turn := c.number; ctx.Err() == nil; turn++ {
		cl, err := clientv3.New(clientv3.Config{Endpoints: []string{c.endpoint(turn)}, Context: ctx})
		if err != nil {
			c.tb.Error(err)
			return
		}
		for n := 0; n < 100 && err == nil && ctx.Err() == nil; n++ {
			err = c.step(ctx, cl)
		}
		cl.Close()
		if err != nil {
			c.failed.Add(1)
			rest(ctx)
		}
	}
}

// step makes one request.
func (c *client) step(ctx context.Context, cl *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	r := c.draw()
	o := operation{client: c.number, request: r, begin: c.history.now()}
	a, err := c.do(ctx, cl, r)
	o.end = c.history.now()
	if errors.Is(err, rpctypes.ErrNoSpace) {
		c.history.refuse(o)
		rest(ctx)
		return nil
	}
	if err != nil {
		a = answer{unknown: true}
	}
	o.answer = a
	c.history.add(o)
	if err != nil {
		return err
	}
	for i := range c.seen {
		if r.has(i) {
			c.seen[i] = a.keys[i]
		}
	}
	if o.writes() {
		c.acknowledged()
	}
	return nil
}

// draw picks a request.
func (c *client) draw() request {
	if group := c.newestGroup() + c.rng.IntN(2); group != c.group {
		c.group, c.seen = group, [groupKeys]register{}
	}
	r := request{group: c.group, kind: kind(c.rng.IntN(4)), key: c.rng.IntN(groupKeys + 1), compare: comparison(c.rng.IntN(3))}
	switch r.kind {
	case put, swap:
		r.value = fmt.Sprintf("%d.%d", c.number, c.values.Add(1))
		r.operand = c.seen[r.first()]
	case remove:
		if r.key = c.rng.IntN(groupKeys); c.rng.IntN(2) == 0 {
			r.kind = get
		}
	}
	return r
}

// do sends a request.
func (c *client) do(ctx context.Context, cl *clientv3.Client, r request) (a answer, err error) {
	var names []string
	var at []int
	for k := range groupKeys {
		if r.has(k) {
			names, at = append(names, c.key(r.group, k)), append(at, k)
		}
	}
	if r.kind == remove {
		resp, err := cl.Delete(ctx, names[0], clientv3.WithPrevKV())
		if err != nil {
			return a, err
		}
		a.revision, a.done = resp.Header.Revision, resp.Deleted > 0
		if a.done {
			a.keys[at[0]] = registerOf(resp.PrevKvs[0])
		}
		return a, nil
	}
	txn := cl.Txn(ctx)
	var reads, writes []clientv3.Op
	for _, name := range names {
		reads = append(reads, clientv3.OpGet(name))
		writes = append(writes, clientv3.OpPut(name, r.value, clientv3.WithPrevKV()))
	}
	switch r.kind {
	case get:
		if len(names) == 1 {
			resp, err := cl.Get(ctx, names[0])
			if err != nil {
				return a, err
			}
			a.revision = resp.Header.Revision
			if len(resp.Kvs) > 0 {
				a.keys[at[0]] = registerOf(resp.Kvs[0])
			}
			return a, nil
		}
		txn = txn.Then(reads...)
	case put:
		if len(names) == 1 {
			resp, err := cl.Put(ctx, names[0], r.value, clientv3.WithPrevKV())
			if err != nil {
				return a, err
			}
			a.revision = resp.Header.Revision
			if resp.PrevKv != nil {
				a.keys[at[0]] = registerOf(resp.PrevKv)
			}
			return a, nil
		}
		txn = txn.Then(writes...)
	case swap:
		txn = txn.If(r.condition(names[0])).Then(writes...).Else(reads...)
	}
	resp, err := txn.Commit()
	if err != nil {
		return a, err
	}
	a.revision, a.done = resp.Header.Revision, resp.Succeeded && r.kind == swap
	for i, x := range resp.Responses {
		a.keys[at[i]] = foundIn(x)
	}
	return a, nil
}

// condition is a swap's.
func (r request) condition(name string) clientv3.Cmp {
	switch r.compare {
	case byValue:
		return clientv3.Compare(clientv3.Value(name), "=", r.operand.value)
	case byVersion:
		return clientv3.Compare(clientv3.Version(name), "=", r.operand.version)
	default:
		return clientv3.Compare(clientv3.ModRevision(name), "=", r.operand.mod)
	}
}

// foundIn is the register that a get in a transaction read, or that a put found.
func foundIn(x *etcdserverpb.ResponseOp) register {
	if p := x.GetResponsePut(); p != nil && p.PrevKv != nil {
		return registerOf(p.PrevKv)
	}
	if g := x.GetResponseRange(); g != nil && len(g.Kvs) > 0 {
		return registerOf(g.Kvs[0])
	}
	return register{}
}
