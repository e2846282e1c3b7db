package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaseClients grant and renew, each on a stream of its own.
const leaseClients = 64

// grant makes n leases, each with a key below the prefix unless that is empty.
func (r *rig) grant(ctx context.Context, n int, ttl int64, prefix string) ([]clientv3.LeaseID, error) {
	pool, err := r.pool(leaseClients)
	if err != nil {
		return nil, err
	}
	ids := make([]clientv3.LeaseID, n)
	t := closedLoop(ctx, leaseClients, n, preparePatience, func(ctx context.Context, client, i int) error {
		c := clientOf(pool, client)
		l, err := c.Grant(ctx, ttl)
		if err != nil {
			return err
		}
		ids[i] = l.ID
		if prefix == "" {
			return nil
		}
		_, err = c.Put(ctx, fmt.Sprintf("%s%d", prefix, i), "", clientv3.WithLease(l.ID))
		return err
	})
	if t.first == nil && t.operations != n {
		t.first = fmt.Errorf("it took longer than %v", preparePatience)
	}
	if t.first != nil {
		return nil, fmt.Errorf("granting %d leases: %w", n, t.first)
	}
	return ids, nil
}

// keepAliveRun renews each of many leases once; 64 streams send one renewal after another.
func keepAliveRun(ctx context.Context, r *rig) Turn {
	const ttl = 3600
	ids, err := r.grant(ctx, r.sizes.Leases, ttl, "")
	if err != nil {
		return failedTurn(err)
	}
	pool, err := r.pool(leaseClients)
	if err != nil {
		return failedTurn(err)
	}
	streamCtx, cancel := context.WithTimeout(ctx, r.sizes.Most+operationPatience)
	defer cancel()
	streams := make([]etcdserverpb.Lease_LeaseKeepAliveClient, leaseClients)
	for i := range streams {
		if streams[i], err = etcdserverpb.NewLeaseClient(pool[i%len(pool)].ActiveConnection()).LeaseKeepAlive(streamCtx); err != nil {
			return failedTurn(fmt.Errorf("opening a stream of renewals: %w", err))
		}
	}
	turn := r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		return closedLoop(ctx, leaseClients, len(ids), r.sizes.Most, func(_ context.Context, client, i int) error {
			return renew(streams[client], ids[i])
		}), nil
	})
	if err := r.revoke(ctx, ids); err != nil {
		return failedTurn(err)
	}
	return turn
}

func renew(s etcdserverpb.Lease_LeaseKeepAliveClient, id clientv3.LeaseID) error {
	if err := s.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
		return fmt.Errorf("renewing a lease: %w", err)
	}
	k, err := s.Recv()
	if err != nil {
		return fmt.Errorf("renewing a lease: %w", err)
	}
	if k.ID != int64(id) || k.TTL <= 0 {
		return fmt.Errorf("lease %x was not renewed: lease %x has %d s", id, k.ID, k.TTL)
	}
	return nil
}

// revoke ends leases, so that each turn begins with none.
func (r *rig) revoke(ctx context.Context, ids []clientv3.LeaseID) error {
	pool, err := r.pool(leaseClients)
	if err != nil {
		return err
	}
	t := closedLoop(ctx, leaseClients, len(ids), preparePatience, func(ctx context.Context, client, i int) error {
		_, err := clientOf(pool, client).Revoke(ctx, ids[i])
		return err
	})
	return t.first
}

// expiryTTL is how long, in seconds, the leases live that are to expire: longer than granting them takes, where that is possible.
func (s Sizes) expiryTTL() int64 { return max(2, int64(s.Leases/2000)) }

// expiryRun grants leases with a key each and measures from the moment when the last one is due until all keys are gone.
func expiryRun(ctx context.Context, r *rig) Turn {
	prefix := fmt.Sprintf("/expiry/%d/", r.round)
	ttl := r.sizes.expiryTTL()
	if _, err := r.grant(ctx, r.sizes.Leases, ttl, prefix); err != nil {
		return failedTurn(err)
	}
	due := time.Now().Add(time.Duration(ttl) * time.Second)
	pool, err := r.pool(1)
	if err != nil {
		return failedTurn(err)
	}
	var late time.Duration
	turn := r.measure(ctx, 0, func() (tally, error) {
		err := waitGone(ctx, pool[0], prefix, due.Add(preparePatience))
		late = time.Since(due)
		return tally{operations: r.sizes.Leases, elapsed: max(late, time.Millisecond), first: err, errors: count(err)}, nil
	})
	if !turn.failed() {
		turn.Metrics[Took] = max(late, time.Millisecond).Seconds()
	}
	delete(turn.Metrics, Rate)
	return turn
}

func count(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// waitGone waits until no key has the prefix.
func waitGone(ctx context.Context, c *clientv3.Client, prefix string, until time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		g, err := c.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			return fmt.Errorf("waiting for leases to expire: %w", err)
		}
		if g.Count == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for leases to expire: %d of them have not", g.Count)
		}
	}
}

// heartbeats is what the kubelets of many nodes do: each updates its node's lease, an ordinary key, by compare and swap.
func (r *rig) heartbeats(pool []*clientv3.Client) operation {
	var revisions sync.Map
	vs := values(valueBytes)
	return func(ctx context.Context, client, i int) error {
		key := fmt.Sprintf("/registry/leases/kube-node-lease/node-%05d", i%r.sizes.Nodes)
		return swap(ctx, clientOf(pool, client), &revisions, key, vs[i%len(vs)])
	}
}
