package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// besideALiar runs a member whose learner tells another hash than the member has.
func besideALiar(t *testing.T, l *flagLab, flags ...string) (*solo, *stand, *pacedClock) {
	t.Helper()
	other, c := newStand(t), newPacedClock()
	x := l.solo(t, Host{Clock: c}, flags...)
	other.hash = lie(t, x)
	x.learns(t, other)
	return x, other, c
}

// lie returns hashes that are not the member's.
func lie(t *testing.T, x *solo) func(revision int64) peer.HashKV {
	return func(revision int64) peer.HashKV {
		hash, compact, at, err := x.HashKV(t.Context(), revision)
		if err != nil {
			t.Error(err)
		}
		return peer.HashKV{Header: peer.HashKVHeader{Revision: at}, Hash: hash + 1, CompactRevision: compact, HashRevision: at}
	}
}

// alarmed wants the alarm of a corrupt member to be raised after the time, and nobody to be asked before.
func alarmed(t *testing.T, x *solo, other *stand, c *pacedClock, after time.Duration) {
	t.Helper()
	c.await(t, after, 1)
	c.Advance(after - 1)
	x.put(t, 3)
	if n := other.hashes.Load(); n != 0 {
		t.Errorf("%d hashes are asked for too early", n)
	}
	c.Advance(1)
	looks := 0
	eventually(t, "the alarm is raised", func() bool {
		if looks++; looks%5000 == 0 { // a question went unanswered on a machine that is that slow
			c.Advance(after)
		}
		r, err := x.client.AlarmList(t.Context())
		return err == nil && len(r.Alarms) == 1 && r.Alarms[0].Alarm == etcdserverpb.AlarmType_CORRUPT
	})
}

// seesCorruptCheck wants a learner with another hash to be found when it is time.
func seesCorruptCheck(t *testing.T, l *flagLab, name string) {
	x, other, c := besideALiar(t, l, "--"+name+"=9s")
	alarmed(t, x, other, c, 9*time.Second)
}

// seesCompactHashCheck is seesCorruptCheck of the hash that a compaction made.
func seesCompactHashCheck(t *testing.T, l *flagLab, name string) {
	x, other, c := besideALiar(t, l, "--"+name+"=9s", "--feature-gates=CompactHashCheck=true")
	if _, err := x.client.Compact(t.Context(), x.put(t, 5), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	alarmed(t, x, other, c, 9*time.Second)
}

// provesGates shows what each feature gate does that has an effect; CompactHashCheck has its own flag to be shown with.
func provesGates(t *testing.T, l *flagLab, name string) {
	answers(t, l, "metrics", "/metrics", `etcd_server_feature_enabled{name="CompactHashCheck",stage="ALPHA"} 1`)
	// That a renewal then waits for all that was committed before it is shown in package member, where that can be held up.
	ofMember("FastLeaseKeepAlive=false", func(c *member.Config) any { return c.FastLeaseKeepAlive }, false)(t, l, name)
	seesInitialCheck(t, l, name)
	seesCheckpoints(t, l, name)
	seesLocalAddress(t, name)
}

// seesInitialCheck starts a member again whose learner has another hash.
func seesInitialCheck(t *testing.T, l *flagLab, name string) {
	other := newStand(t)
	x := l.solo(t, Host{})
	x.learns(t, other)
	told := lie(t, x)(0)
	other.hash = func(int64) peer.HashKV { return told }
	if err := x.end(); err != nil {
		t.Fatal(err)
	}
	for value, refused := range map[string]bool{"true": true, "false": false} {
		cfg := parsed(t, "--data-dir="+x.dir+"/data", "--listen-client-urls=unix://"+x.dir+"/c", "--advertise-client-urls=http://127.0.0.1:1",
			"--listen-peer-urls=unix://"+x.dir+"/p", "--"+name+"=InitialCorruptCheck="+value)
		ctx, stop := context.WithCancel(t.Context())
		served := false
		err := RunIn(ctx, cfg, slog.New(slog.DiscardHandler), Host{Serving: func(*member.Member) { served = true; stop() }})
		stop()
		if served == refused || errors.Is(err, member.ErrInconsistent) != refused {
			t.Errorf("InitialCorruptCheck=%s: it serves: %v, and ends with %v", value, served, err)
		}
	}
}

// seesCheckpoints restarts a member some time after a lease was granted: only what was checkpointed is known of that time, and it counts
// with the gate LeaseCheckpoint. LeaseCheckpointPersist decides in clusters below 3.6 alone.
func seesCheckpoints(t *testing.T, l *flagLab, name string) {
	const ttl = 2000
	c := newPacedClock()
	gates := "--" + name + "="
	x := l.solo(t, Host{Clock: c}, gates+"LeaseCheckpoint=true,LeaseCheckpointPersist=true")
	granted, err := x.client.Grant(t.Context(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	before := x.Node().Applied()
	c.Advance(6 * time.Minute)
	eventually(t, "the lease is checkpointed", func() bool { c.Advance(100 * time.Millisecond); return x.Node().Applied() > before })
	for _, c := range []struct {
		gates  string
		counts bool
	}{
		{"LeaseCheckpoint=true,LeaseCheckpointPersist=true", true},
		{"LeaseCheckpoint=true", true},
		{"LeaseCheckpoint=false", false},
	} {
		if err := x.end(); err != nil {
			t.Fatal(err)
		}
		x = l.soloIn(t, x.dir, Host{Clock: newPacedClock()}, gates+c.gates)
		r, err := x.client.TimeToLive(t.Context(), granted.ID)
		if err != nil || (r.TTL < ttl-300) != c.counts {
			t.Errorf("%s: of %d s are left %v, %v", c.gates, ttl, r, err)
		}
	}
}

// seesLocalAddress dials from an address that this machine does not have.
func seesLocalAddress(t *testing.T, name string) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for value, refused := range map[string]bool{"true": true, "false": false} {
		cfg := parsed(t, "--"+name+"=SetMemberLocalAddr="+value, "--initial-advertise-peer-urls=http://192.0.2.1:1", "--initial-cluster=default=http://192.0.2.1:1")
		conn, err := peerDialer(&cfg).Dial("tcp", lis.Addr().String())
		if (err != nil) != refused {
			t.Errorf("SetMemberLocalAddr=%s: %v", value, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

// seesLearners adds one learner after the other.
func seesLearners(t *testing.T, l *flagLab, name string) {
	for value, refused := range map[string]bool{"1": true, "2": false} {
		x := l.solo(t, Host{}, "--"+name+"="+value)
		_, err := x.client.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:9"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = x.client.MemberAddAsLearner(t.Context(), []string{"http://127.0.0.1:10"})
		if errors.Is(err, rpctypes.ErrTooManyLearners) != refused || err != nil && !refused {
			t.Errorf("--%s=%s: the second learner: %v", name, value, err)
		}
	}
}

// seesQuota writes when there is no room.
func seesQuota(t *testing.T, l *flagLab, name string) {
	for value, refused := range map[string]bool{"1": true, "1000000000": false} {
		x := l.solo(t, Host{}, "--"+name+"="+value)
		_, err := x.client.Put(t.Context(), "k", "v")
		if errors.Is(err, rpctypes.ErrNoSpace) != refused || err != nil && !refused {
			t.Errorf("--%s=%s: %v", name, value, err)
		}
	}
}
