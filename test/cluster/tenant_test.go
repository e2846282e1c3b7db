package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaseTTL is that of a tenant's leases, in seconds; it is the lowest that a member grants.
const leaseTTL = 2

// tenant takes leases one after the other, with a key under each, keeps them alive for a while at any member, and then revokes
// them or lets them run out. It knows when each may end at the earliest.
type tenant struct {
	*workload
	number int
	rng    *rand.Rand
	turn   int
}

// tenancies are all leases there ever were, by their keys.
type tenancies struct {
	mu      sync.Mutex
	until   map[string]time.Duration // when the lease may end at the earliest
	revoked map[string]bool          // it may end any time: that was asked for
	ended   map[string]time.Duration // when a watcher was first told
	kept    int
}

func newTenancies() *tenancies {
	return &tenancies{until: map[string]time.Duration{}, revoked: map[string]bool{}, ended: map[string]time.Duration{}}
}

// renewed notes that a lease was renewed by a request that was sent at a time.
func (t *tenancies) renewed(key string, sent time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept++
	t.until[key] = sent + leaseTTL*time.Second
}

// mayBeGone says whether the key of a lease may be gone for a reader whose answer came at a time.
func (t *tenancies) mayBeGone(key string, at time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoked[key] || at >= t.until[key]
}

// gone notes that a watcher was told at a time that a key is gone.
func (t *tenancies) gone(key string, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.ended[key]; !ok || at < old {
		t.ended[key] = at
	}
}

// early returns the keys of which a watcher was told before their leases could have ended.
func (t *tenancies) early() (wrong []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, until := range t.until {
		if at, ok := t.ended[key]; ok && at < until && !t.revoked[key] {
			wrong = append(wrong, fmt.Sprintf("%s was gone at %v, its lease ran until %v", key, at, until))
		}
	}
	return wrong
}

// run takes leases until ctx ends.
func (t *tenant) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		if err := t.rent(ctx, t.workload.prefix+fmt.Sprintf("lease/%d/%d", t.number, n)); err != nil {
			rest(ctx)
		}
	}
}

// ask makes one request at the next member.
func (t *tenant) ask(ctx context.Context, request func(context.Context, *clientv3.Client) error) error {
	t.turn++
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{t.endpoint(t.turn)}, Context: ctx})
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return request(ctx, cl)
}

// rent lives through one lease.
func (t *tenant) rent(ctx context.Context, key string) error {
	var id clientv3.LeaseID
	sent := t.history.now()
	err := t.ask(ctx, func(ctx context.Context, cl *clientv3.Client) error {
		g, err := cl.Grant(ctx, leaseTTL)
		if err != nil {
			return err
		}
		id = g.ID
		_, err = cl.Put(ctx, key, key, clientv3.WithLease(id))
		return err
	})
	if err != nil {
		return err
	}
	t.leases.renewed(key, sent)
	for range 1 + t.rng.IntN(30) {
		if gone, err := t.look(ctx, key); err != nil || gone {
			return err
		}
		sent := t.history.now()
		err := t.ask(ctx, func(ctx context.Context, cl *clientv3.Client) error {
			_, err := cl.KeepAliveOnce(ctx, id)
			return err
		})
		switch {
		case err == nil:
			t.leases.renewed(key, sent)
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			return t.checkGone(ctx, key, "was not found")
		}
		rest(ctx)
	}
	if t.rng.IntN(2) == 0 {
		return nil
	}
	return t.revoke(ctx, id, key)
}

// look reads a key linearizably. It must be there as long as its lease cannot have ended.
func (t *tenant) look(ctx context.Context, key string) (gone bool, err error) {
	err = t.ask(ctx, func(ctx context.Context, cl *clientv3.Client) error {
		resp, err := cl.Get(ctx, key)
		if err != nil {
			return err
		}
		gone = len(resp.Kvs) == 0
		if at := t.history.now(); gone && !t.leases.mayBeGone(key, at) {
			t.tb.Errorf("%s is gone at %v, before its lease could end; it is seen at revision %d", key, at, resp.Header.Revision)
		}
		return nil
	})
	return gone, err
}

func (t *tenant) revoke(ctx context.Context, id clientv3.LeaseID, key string) error {
	t.leases.mu.Lock()
	t.leases.revoked[key] = true
	t.leases.mu.Unlock()
	err := t.ask(ctx, func(ctx context.Context, cl *clientv3.Client) error {
		_, err := cl.Revoke(ctx, id)
		return err
	})
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	return t.checkGone(ctx, key, "was revoked")
}

// checkGone checks that the key of a lease that is no more is not there either, at whatever member.
func (t *tenant) checkGone(ctx context.Context, key, why string) error {
	gone, err := t.look(ctx, key)
	if err == nil && !gone {
		t.tb.Errorf("%s is there although its lease %s", key, why)
	}
	return err
}
