package member

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

func TestAChosenIDIsPositiveAndTimesAreRaised(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), alone)
	cfg.TickInterval, cfg.ElectionTicks = 50*time.Millisecond, 50 // 2.5 s
	m := start(t, cfg)
	defer stop(t, m)
	for range 10 {
		l, _, err := m.LeaseGrant(t.Context(), 0, 1)
		if err != nil || l.ID <= 0 || l.TTL != 4 {
			t.Fatalf("granted %+v, %v", l, err)
		}
	}
	ids, err := m.Leases(t.Context())
	if err != nil || len(ids) != 10 {
		t.Errorf("%v, %v", ids, err)
	}
}

// TestTheSmallestTimeIsThatOfEtcd: one and a half election timeouts in whole ticks, then in whole seconds.
func TestTheSmallestTimeIsThatOfEtcd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tick  time.Duration
		ticks int
		want  int64
	}{
		{100 * time.Millisecond, 10, 2}, {100 * time.Millisecond, 50, 8}, {time.Second, 5, 7}, {time.Second, 6, 9}, {500 * time.Millisecond, 5, 4},
		{400 * time.Millisecond, 7, 4},
	} {
		m := &Member{cfg: Config{TickInterval: c.tick, ElectionTicks: c.ticks}}
		if got := m.LeaseMinTTL(); got != c.want {
			t.Errorf("%d ticks of %v: %d s, want %d", c.ticks, c.tick, got, c.want)
		}
	}
}

// TestALeaseLastsAsLongAsAMemberOfEtcdHasPromised: that proposes what it was asked for, and tells what it raises it to.
func TestALeaseLastsAsLongAsAMemberOfEtcdHasPromised(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), alone)
	cfg.TickInterval, cfg.ElectionTicks = 50*time.Millisecond, 100 // 5 s
	m := start(t, cfg)
	defer stop(t, m)
	raw, err := proto.Marshal(&etcdserverpb.LeaseGrantRequest{ID: 7, TTL: 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Propose(t.Context(), apply.CommandLeaseGrant, raw); err != nil {
		t.Fatal(err)
	}
	// Granted, renewed, and what is told of it: all 8 seconds.
	if s, err := m.LeaseTimeToLive(t.Context(), 7, false); err != nil || s.Granted != 8 || s.Remaining < 4 {
		t.Errorf("%d of %d seconds are left, %v", s.Remaining, s.Granted, err)
	}
	if ttl, err := m.LeaseRenew(t.Context(), 7); ttl != 8 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	if s, err := m.LeaseTimeToLive(t.Context(), 7, false); err != nil || s.Remaining < 4 {
		t.Errorf("%d seconds are left after a renewal, %v", s.Remaining, err)
	}
}

func TestLeasesAreListedAsTheyWillEnd(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	for id, ttl := range map[int64]int64{1: 500, 2: 300, 3: 400} {
		if _, _, err := m.LeaseGrant(t.Context(), id, ttl); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := m.Leases(t.Context()); err != nil || fmt.Sprint(ids) != "[2 3 1]" {
		t.Errorf("got %v, %v", ids, err)
	}
	if _, err := m.LeaseRevoke(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := m.LeaseRevoke(t.Context(), 2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	if ttl, err := m.LeaseRenew(t.Context(), 3); ttl != 400 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	if _, err := m.LeaseRenew(t.Context(), 2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing a lease that is gone: %v", err)
	}
	st, err := m.LeaseTimeToLive(t.Context(), 1, true)
	if err != nil || st.Granted != 500 || st.Remaining != 499 || len(st.Keys) != 0 {
		t.Errorf("got %+v, %v", st, err)
	}
}

// TestRevokesOfClientsLeaveRoomForLeasesThatAreDue: a client that does nothing but revoke must not fill the queue of
// urgent proposals.
func TestRevokesOfClientsLeaveRoomForLeasesThatAreDue(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	const many = 9000 // above what the queue of urgent proposals holds
	var begun atomic.Int32
	for range many {
		clients.Go(func() {
			begun.Add(1)
			if _, err := x.LeaseRevoke(ctx, 77); !errors.Is(err, context.Canceled) {
				t.Errorf("a revoke that nobody decides ended with %v", err)
			}
		})
	}
	for begun.Load() < many || x.lessor.revokes.Load() < revokesMax || x.waiting() < many {
		runtime.Gosched()
	}
	if n := x.lessor.revokes.Load(); n > revokesMax {
		t.Errorf("%d revokes are urgent", n)
	}
	p, err := x.beginUrgent(x.itself(), apply.CommandLeaseRevoke, encoded(t, &etcdserverpb.LeaseRevokeRequest{ID: 1}))
	if err != nil {
		t.Fatalf("the end of a lease that is due: %v", err)
	}
	cancel()
	clients.Wait()
	step(x.Member)
	if res, ok := p.Poll(); !ok || res.Err != nil {
		t.Errorf("it ended with %v, %v", res.Err, ok)
	}
	if n := x.lessor.revokes.Load(); n != 0 {
		t.Errorf("%d revokes are counted when none is left", n)
	}
}

// waiting returns how many proposals wait.
func (x *leased) waiting() (n int) {
	for i := range x.waiters.shards {
		s := &x.waiters.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}
