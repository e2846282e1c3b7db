package member

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
)

func TestCheckpointsTellTheNextPrimaryWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		checkpoint, persist, renew bool
		want                       int64 // left after a restart, without the election timeout
	}{
		"both gates":                   {true, true, false, 1000 - 600},
		"both gates, and a renewal":    {true, true, true, 1000},
		"nothing lasts over a restart": {true, false, false, 1000},
		"no gate":                      {false, false, false, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			gates := func(cfg *Config) { cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist = c.checkpoint, c.persist }
			x := newLeased(t, disk, gates)
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

// TestACheckpointUnderWayDoesNotOvertakeARenewal: a checkpoint that is proposed and not applied when a lease is renewed says
// less than the renewal gave, so the renewal has to take it back.
func TestACheckpointUnderWayDoesNotOvertakeARenewal(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), func(cfg *Config) {
		cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist, cfg.FastLeaseKeepAlive = true, true, true
	})
	defer stop(t, x.Member)
	x.grant(1, 1000)
	x.pass(checkpointEvery - 250*time.Millisecond)
	x.clock.Advance(250 * time.Millisecond)
	x.LeaseStep() // proposes the checkpoint
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
	x := newLeased(t, vfs.NewMem(), func(cfg *Config) {
		cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist, cfg.FastLeaseKeepAlive = true, true, true
	})
	defer stop(t, x.Member)
	x.grant(1, 1000)
	x.pass(checkpointEvery - 250*time.Millisecond)
	x.clock.Advance(250 * time.Millisecond)
	x.LeaseStep() // proposes the checkpoint
	r := x.BeginLeaseRenew(1)
	if ttl, wait, err := r.Poll(); ttl != 1000 || wait != nil || err != nil || !r.clear {
		t.Fatalf("renewed for %d, %v, takes the checkpoint back: %t", ttl, err, r.clear)
	}
	raw, err := proto.Marshal(&etcdserverpb.LeaseCheckpointRequest{Checkpoints: []*etcdserverpb.LeaseCheckpoint{{ID: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.beginUrgent(auth.Subject{}, apply.CommandLeaseCheckpoint, raw); err != nil { // as takeBack does
		t.Fatal(err)
	}
	x.settle()
	if l, _ := x.leases().Get(1); l.Remaining != 0 {
		t.Errorf("a checkpoint from before the renewal says %+v", l)
	}
}
