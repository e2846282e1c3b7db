package member

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

func TestCheckpointsTellTheNextPrimaryWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		checkpoint, persist, renew bool
		version                    string // of the cluster
		want                       int64  // left after a restart, without the election timeout
	}{
		"both gates":                              {true, true, false, "", 1000 - 600},
		"both gates, and a renewal":               {true, true, true, "", 1000},
		"nothing lasts before the version is set": {true, false, false, "", 1000},
		"nothing lasts in 3.5":                    {true, false, false, "3.5.0", 1000},
		"all last from 3.6 on":                    {true, false, false, "3.6.0", 1000 - 600},
		"all last in 3.7":                         {true, false, false, "3.7.0", 1000 - 600},
		"a renewal in 3.7":                        {true, false, true, "3.7.0", 1000},
		"no gate":                                 {false, false, false, "3.7.0", 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			gates := func(cfg *Config) { cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist = c.checkpoint, c.persist }
			x := newLeased(t, disk, gates)
			if c.version != "" {
				x.do(apply.CommandClusterVersionSet, &membershippb.ClusterVersionSetRequest{Ver: c.version})
			}
			x.grant(1, 1000)
			x.grant(2, 200)
			x.pass(10*time.Minute + 10*time.Second)
			if l, _ := x.leases().Get(1); (l.Remaining == 400) != c.checkpoint {
				t.Errorf("%d seconds are checkpointed", l.Remaining)
			}
			if c.renew {
				r := x.BeginLeaseRenew(1)
				step(x.Member)
				if _, wait, err := r.Poll(); err != nil || wait != nil || !r.clear {
					t.Fatalf("a renewal: %v, clears the checkpoint %v", err, r.clear)
				}
				x.do(apply.CommandLeaseCheckpoint, &etcdserverpb.LeaseCheckpointRequest{Checkpoints: []*etcdserverpb.LeaseCheckpoint{{ID: 1}}})
			}
			stop(t, x.Member)
			x = newLeased(t, disk, gates)
			defer stop(t, x.Member)
			st, err := x.lessor.status(x.lessor.term, 1)
			if want := c.want + 1; err != nil || st.Remaining != want || st.Granted != 1000 {
				t.Errorf("%d of %d seconds are left, %v; want %d", st.Remaining, st.Granted, err, want)
			}
		})
	}
}

// newCheckpointed is a member with the gates of checkpoints, and lease 1 of 1000 seconds.
func newCheckpointed(t *testing.T) *leased {
	x := newLeased(t, vfs.NewMem(), func(cfg *Config) {
		cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist, cfg.FastLeaseKeepAlive = true, true, true
	})
	x.grant(1, 1000)
	return x
}

// proposeCheckpoint lets time pass until a checkpoint of the lease is proposed, which is not in raft's log yet.
func proposeCheckpoint(x *leased) {
	x.pass(checkpointEvery - 250*time.Millisecond)
	x.clock.Advance(250 * time.Millisecond)
	x.LeaseStep()
}

// TestACheckpointUnderWayDoesNotOvertakeARenewal: a checkpoint that is proposed and not applied when a lease is renewed says
// less than the renewal gave, so the renewal has to take it back.
func TestACheckpointUnderWayDoesNotOvertakeARenewal(t *testing.T) {
	t.Parallel()
	x := newCheckpointed(t)
	defer stop(t, x.Member)
	proposeCheckpoint(x)
	r := x.BeginLeaseRenew(1)
	x.node.Turn() // it is in raft's log, and the renewal is confirmed
	x.node.Turn()
	if ttl, wait, err := r.Poll(); ttl != 1000 || wait != nil || err != nil {
		t.Fatalf("renewed for %d, %v", ttl, err)
	}
	if l, _ := x.leases().Get(1); l.Remaining != 0 {
		t.Fatalf("the checkpoint is applied already: %+v", l)
	}
	if !r.clear {
		t.Error("the renewal does not take the checkpoint back")
	}
	x.lessor.cleared(r.term, 1)
	x.settle()
	if l, _ := x.leases().Get(1); l.Remaining != 700 {
		t.Errorf("the checkpoint says %+v", l)
	}
}

// TestWhatARenewalTakesBackStaysTakenBack: the checkpoint waits for raft yet when the lease is renewed. What takes it back is urgent, and
// must not come before it: the next primary would end the lease as early as if it had not been renewed.
func TestWhatARenewalTakesBackStaysTakenBack(t *testing.T) {
	t.Parallel()
	x := newCheckpointed(t)
	defer stop(t, x.Member)
	proposeCheckpoint(x)
	r := x.BeginLeaseRenew(1)
	if ttl, wait, err := r.Poll(); ttl != 1000 || wait != nil || err != nil || !r.clear {
		t.Fatalf("renewed for %d, %v, takes the checkpoint back: %t", ttl, err, r.clear)
	}
	_, release, err := r.beginTakeBack()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	x.settle()
	if l, _ := x.leases().Get(1); l.Remaining != 0 {
		t.Errorf("a checkpoint from before the renewal says %+v", l)
	}
}

// TestARenewalOfAnEarlierTermTakesNothingBack: the leader changes after a lease was renewed and before that is taken back which
// was checkpointed of it. The next primary went by the checkpoint, so the renewal must not be answered: the lease ends before that time.
func TestARenewalOfAnEarlierTermTakesNothingBack(t *testing.T) {
	t.Parallel()
	x := newCheckpointed(t)
	defer stop(t, x.Member)
	x.pass(10*time.Minute + time.Second)
	r := x.BeginLeaseRenew(1)
	step(x.Member)
	if ttl, wait, err := r.Poll(); ttl != 1000 || wait != nil || err != nil || !r.clear {
		t.Fatalf("renewed for %d, %v, takes the checkpoint back: %t", ttl, err, r.clear)
	}
	x.node.Step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(99), To: proto.Uint64(x.ID()), Term: proto.Uint64(r.term + 1),
	})
	for range 100 { // elected again
		x.node.Tick()
		x.settle()
	}
	term, leads := x.node.Leads()
	if !leads || term == r.term || !x.lessor.primary(term) {
		t.Fatalf("leads %t in term %d, renewed in term %d", leads, term, r.term)
	}
	p, release, err := r.beginTakeBack()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	x.settle()
	if res, ok := p.Poll(); !ok || !errors.Is(res.Err, ErrLeaderChanged) {
		st, _ := x.lessor.status(term, 1)
		t.Errorf("taking back: %v, decided %t; %d of 1000 seconds are left", res.Err, ok, st.Remaining)
	}
}
