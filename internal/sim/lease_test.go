package sim

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// grant has a lease granted, by a leader that watches over the leases.
func (w *World) grant(id, ttl int64) {
	for range 5 {
		w.stepTick()
		w.runHosts(100)
	}
	raw, err := proto.Marshal(&etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.leader().m.Begin(apply.CommandLeaseGrant, raw); err != nil {
		w.t.Fatal(err)
	}
	for w.history.model.leases[id].ttl == 0 {
		w.stepTick()
		w.runHosts(100)
	}
	w.stepTick() // all know of it
	w.runHosts(100)
}

// turns lets a host's raft and append loops do what they can, and its apply loop too if it may.
func (w *World) turns(h *host, applies bool) {
	for busy := true; busy; {
		busy = h.turn(0)
		busy = h.turn(1) || busy
		busy = applies && h.turn(2) || busy
		w.check()
	}
}

// runBut runs the cluster, but one host applies nothing.
func (w *World) runBut(behind *host, rounds int) {
	for range rounds {
		for range len(w.network.queue) {
			w.network.deliver()
		}
		for _, h := range w.hosts {
			w.turns(h, h != behind)
		}
	}
}

// TestALeaderThatIsCutOffProposesNoEndOfALease: an entry that it writes into its own log may yet be committed, if it is
// elected again; and then the lease ends although nobody could renew it.
func TestALeaderThatIsCutOffProposesNoEndOfALease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.grant(1, ttlMin)
	l := w.leader()
	for w.terms.until[1].Sub(w.clock.Now()) > 2*tick {
		w.stepTick()
		w.runHosts(100)
	}
	w.network.isolate(l, true, true)
	last := l.m.Log().LastIndex()
	for range 6 { // it steps down only after ten
		w.stepTick()
		w.turns(l, true)
	}
	if !l.m.Node().IsLeader() || w.clock.Now().Before(w.terms.until[1].Add(2*tick)) {
		t.Fatal("it has stepped down, or the lease is not due: the test shows nothing")
	}
	if n := l.m.Log().LastIndex(); n != last {
		t.Errorf("the leader without a quorum has added %d entries to its log", n-last)
	}
	w.Settle()
	w.ExpireLeases()
}

// TestANewLeaderKnowsOfNoLeaseThatHasEnded: it answers no renewal before it has applied what its predecessor committed.
func TestANewLeaderKnowsOfNoLeaseThatHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	w.grant(1, ttlMin)
	old := w.leader()
	behind := w.follower()
	for len(w.history.model.leases) > 0 { // all but one member apply the end
		w.stepTick()
		w.runBut(behind, 10)
	}
	for old.m.Node().Applied() > behind.m.Node().Committed() {
		w.stepTick()
		w.network.deliver()
		w.turns(old, true)
		w.turns(behind, false)
	}
	if behind.m.Node().Applied() == old.m.Node().Applied() {
		t.Fatal("all members have applied the end: the test shows nothing")
	}
	old.m.Node().TransferLeader(behind.m.ID())
	deadline := w.clock.Now().Add(30 * time.Second)
	for renewals := 0; renewals < 20; {
		if w.clock.Now().After(deadline) {
			t.Fatal("the member that is behind does not become the leader")
		}
		w.stepTick()
		w.runBut(behind, 1)
		if !behind.m.Node().IsLeader() {
			continue
		}
		renewals++
		r := behind.m.BeginLeaseRenew(1)
		w.runBut(behind, 5)
		if ttl, wait, err := r.Poll(); wait == nil && err == nil {
			t.Fatalf("a lease that has ended is renewed for %d s", ttl)
		} else if wait == nil && !errors.Is(err, member.ErrNotPrimary) {
			t.Fatalf("the renewal ended with %v", err)
		}
	}
	w.Settle()
	w.CheckStates()
}
