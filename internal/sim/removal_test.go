package sim

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// decided runs the cluster until p is answered.
func (w *World) decided(p *member.Pending) apply.Result {
	for range 2_000 {
		if r, ok := p.Poll(); ok {
			return r
		}
		w.stepTick()
		w.runHosts(100)
	}
	w.fail("nothing was decided:%s", w.describe())
	return apply.Result{}
}

// begin asks the leader for a change.
func (w *World) begin(cmd apply.Command, m proto.Message) *member.Pending {
	raw, err := proto.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := w.leader().m.Begin(cmd, raw)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestARemovedMemberEndsAndStaysAway ends the member in order. One that is killed may have forgotten, since the commit index is
// not synced: then it is alone, and the others do not speak to it.
func TestARemovedMemberEndsAndStaysAway(t *testing.T) {
	t.Parallel()
	for name, pick := range map[string]func(*World) *host{"the leader": (*World).leader, "a follower": (*World).follower} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3, 3)
			w.write(3)
			h := pick(w)
			x := &cluster.ConfChangeContext{Member: cluster.Member{ID: cluster.ID(h.hostID)}}
			p, err := w.leader().m.BeginChange(raftpb.ConfChangeRemoveNode, x)
			if err != nil {
				t.Fatal(err)
			}
			if r := w.decided(p); r.Err != nil {
				t.Fatal(r.Err)
			}
			for i := 0; !isClosed(h.m.Removed()); i++ {
				if i > 100 {
					t.Fatal("the member does not learn that it was removed")
				}
				w.stepTick()
				w.runHosts(10)
			}
			if err := h.m.Stop(); err != nil {
				t.Fatal(err)
			}
			w.network.down(h)
			w.forget(h)
			h.m, h.dismissed = nil, true
			w.Settle()
			w.write(5)
			w.Settle()
			w.CheckStates()
			if _, err := member.Open(h.config(h.fs)); !errors.Is(err, member.ErrRemoved) {
				t.Errorf("it starts again: %v", err)
			}
		})
	}
}

// TestARemovedLeaderThatGoesOnAnswersNothingOld: of two members the leader is removed, and goes on. The other one may lead by itself
// from then on, and whatever it commits the removed one does not know of.
func TestARemovedLeaderThatGoesOnAnswersNothingOld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5, 2)
	w.grant(1, ttlMin)
	removed, left := w.leader(), w.follower()
	x := &cluster.ConfChangeContext{Member: cluster.Member{ID: cluster.ID(removed.hostID)}}
	p, err := removed.m.BeginChange(raftpb.ConfChangeRemoveNode, x)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.decided(p); r.Err != nil {
		t.Fatal(r.Err)
	}
	for i := 0; !left.m.Members().IsRemoved(x.ID); i++ {
		if i > 100 {
			t.Fatal("the other one does not learn of the removal")
		}
		w.stepTick()
		w.runHosts(10)
	}
	w.network.isolate(removed, true, true)
	removed.paused = true // or it may notice that it hears nobody
	for i := 0; !left.m.Node().IsLeader(); i++ {
		if i > 1_000 {
			t.Fatal("the other one does not lead")
		}
		w.stepTick()
		w.runHosts(10)
	}
	raw, err := proto.Marshal(&etcdserverpb.PutRequest{Key: key(1), Value: []byte("new")})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = left.m.Begin(apply.CommandPut, raw); err != nil {
		t.Fatal(err)
	}
	r := w.decided(p)
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	w.history.acknowledge(w, r)
	if removed.paused = false; !removed.m.Node().IsLeader() {
		t.Fatal("the removed one does not lead any more: the test shows nothing")
	}
	w.clients = append(w.clients, &request{h: removed, read: removed.m.Node().BeginRead(), floor: w.history.acknowledged})
	renewal := removed.m.BeginLeaseRenew(1)
	for range 30 {
		w.stepTick()
		w.runHosts(10)
		if ttl, wait, err := renewal.Poll(); wait == nil && err == nil {
			t.Fatalf("the removed leader renewed a lease for %d s", ttl)
		}
	}
	w.Settle()
	w.CheckStates()
}

func TestWithoutAQuorumNoLeaseEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4, 3)
	if r := w.decided(w.begin(apply.CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 1, TTL: ttlMin})); r.Err != nil {
		t.Fatal(r.Err)
	}
	put := &etcdserverpb.PutRequest{Key: key(1), Value: []byte("v"), Lease: 1}
	if r := w.decided(w.begin(apply.CommandPut, put)); r.Err != nil {
		t.Fatal(r.Err)
	}
	for w.follower().m.Node().Applied() < w.history.applied {
		w.runHosts(1)
	}
	leader := w.leader()
	for _, h := range w.hosts {
		if h != leader {
			h.stop(0)
		}
	}
	for range 10 * ttlMax {
		w.stepTick()
		w.runHosts(20)
	}
	if len(w.history.model.leases) == 0 {
		t.Fatal("a lease ended that no quorum knows of")
	}
	w.Settle()
	w.ExpireLeases()
	w.Settle()
	w.CheckStates()
	if w.history.model.at(string(key(1)), w.history.model.revision) != nil {
		t.Error("the key outlived its lease")
	}
}
