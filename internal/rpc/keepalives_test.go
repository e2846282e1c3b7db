package rpc

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/member"
)

// TestKeepAlivesOfLeasesThatAreNotThereBesideWrites: what is committed and not yet applied may grant the lease, so their renewals have to wait once more,
// which whoever answers finds out while the other goroutine may still be busy with them. It is for the race detector.
func TestKeepAlivesOfLeasesThatAreNotThereBesideWrites(t *testing.T) {
	t.Parallel()
	s := newSoloWith(t, func(c *member.Config) { c.FastLeaseKeepAlive = true })
	c, kv := serveLeases(t, s, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var writers, sender sync.WaitGroup
	done := make(chan struct{})
	for i := range 4 {
		writers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: fmt.Append(nil, "k", i)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer writers.Wait()
	defer close(done)
	k, err := c.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const renewals = 1000
	sender.Go(func() {
		for id := range int64(renewals) {
			if err := k.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id + 1}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer sender.Wait()
	for id := range int64(renewals) {
		if r, err := k.Recv(); err != nil || r.ID != id+1 || r.TTL != 0 {
			t.Fatalf("answer %v, %v; want that %d is not there", r, err, id+1)
		}
	}
}
