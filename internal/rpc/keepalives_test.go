package rpc

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
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

// TestARenewalThatHasToWaitForMoreIsAnswered, although whoever answers found that out while it was not yet its turn: the one before it takes a
// checkpoint back, and of its own lease nothing is known until what is committed is applied.
func TestARenewalThatHasToWaitForMoreIsAnswered(t *testing.T) {
	t.Parallel()
	cfg := soloConfig(t)
	cfg.FastLeaseKeepAlive = true
	m, err := member.Open(cfg) // not started: it goes on when the test says so
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			t.Error(err)
		}
	})
	n := m.Node()
	commit := func() {
		for busy := true; busy; {
			busy = n.Turn()
			busy = n.AppendTurn() || busy
		}
	}
	settle := func() {
		for range 5 {
			commit()
			for n.ApplyTurn() {
			}
			m.LeaseStep()
		}
	}
	begin := func(c apply.Command, r proto.Message) {
		if _, err := m.Begin(c, marshal(t, r)); err != nil {
			t.Fatal(err)
		}
	}
	settle()
	begin(apply.CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 1, TTL: 100})
	begin(apply.CommandLeaseCheckpoint, &etcdserverpb.LeaseCheckpointRequest{Checkpoints: []*etcdserverpb.LeaseCheckpoint{{ID: 1, Remaining_TTL: 50}}})
	settle()
	begin(apply.CommandPut, &etcdserverpb.PutRequest{Key: []byte("k")})
	commit() // and nothing is applied

	ctx, cancel := context.WithCancel(context.Background())
	q := newKeepAlives(NewLease(m), silent{ctx: ctx})
	defer q.close()
	defer cancel()
	defer context.AfterFunc(q.ctx, q.Wake)()
	for id := range int64(2) {
		if !q.add(id + 1) {
			t.Fatal("not added")
		}
	}
	commit() // confirms the renewals
	first := q.first()
	answered := make(chan error, 1)
	go func() {
		ttl, err := q.outcome(first)
		if err == nil && ttl != 100 {
			err = fmt.Errorf("renewed for %d", ttl)
		}
		answered <- err
	}()
	for was := n.Committed(); n.Committed() == was; { // what takes the checkpoint back
		commit()
	}
	for n.ApplyTurn() {
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	q.pop()
	next := make(chan *keepAlive, 1)
	go func() { next <- q.first() }()
	for waiting := false; !waiting; {
		runtime.Gosched()
		q.mu.Lock()
		waiting = q.waiting
		q.mu.Unlock()
	}
	commit() // lets the second go on
	select {
	case k := <-next:
		if ttl, err := q.outcome(k); k.id != 2 || ttl != 0 || err != nil {
			t.Errorf("lease %d is renewed for %d, %v", k.id, ttl, err)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody is told that the second one can be answered")
	}
}
