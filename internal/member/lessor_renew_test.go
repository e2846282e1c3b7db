package member

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

func TestARenewedLeaseLives(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	for range 5 {
		x.pass(9 * time.Second)
		if ttl, err := x.renew(1); ttl != 10 || err != nil {
			t.Fatalf("renewed for %d, %v", ttl, err)
		}
	}
	x.wantLeft("after 45 seconds", 1)
	if _, err := x.renew(2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing one that ended: %v", err)
	}
	x.pass(10 * time.Second)
	x.wantLeft("10 seconds after the last renewal")
}

func TestARenewalBeforeTheProposalWinsAndOneAfterItLoses(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	for range 10_000 / 250 { // nobody looks at the leases meanwhile
		x.clock.Advance(250 * time.Millisecond)
		x.lessor.last = x.lessor.now()
	}
	if ttl, err := x.renew(1); ttl != 10 || err != nil {
		t.Fatalf("a lease that is due: %d, %v", ttl, err)
	}
	x.LeaseStep() // asks for the confirmation
	x.node.Turn()
	x.LeaseStep() // proposes
	late := x.BeginLeaseRenew(2)
	x.node.Turn() // takes the proposal and confirms the renewal
	x.node.Turn()
	if ttl, wait, err := late.Poll(); wait == nil {
		t.Errorf("a lease whose end is proposed: %d, %v; want to wait", ttl, err)
	}
	x.settle()
	if ttl, wait, err := late.Poll(); wait != nil || !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("after the end: %d, %v", ttl, err)
	}
	x.wantLeft("afterwards", 1)
}

// TestARenewalWaitsForWhatIsCommittedUnlessItIsFast has a put committed and not applied when a renewal comes.
func TestARenewalWaitsForWhatIsCommittedUnlessItIsFast(t *testing.T) {
	t.Parallel()
	for _, fast := range []bool{true, false} {
		x := newLeased(t, vfs.NewMem(), func(cfg *Config) { cfg.FastLeaseKeepAlive = fast })
		x.grant(1, 10)
		if _, err := x.Begin(apply.CommandPut, putRequest(t, "k", "v")); err != nil {
			t.Fatal(err)
		}
		for busy := true; busy; { // all but applying
			busy = x.node.Turn()
			busy = x.node.AppendTurn() || busy
		}
		r := x.BeginLeaseRenew(1)
		x.node.Turn()
		x.node.Turn()
		if ttl, wait, err := r.Poll(); (wait == nil) != fast || err != nil {
			t.Errorf("fast %v: before the put is applied: %d, %v, waits %v", fast, ttl, err, wait != nil)
		}
		x.settle()
		if ttl, wait, err := r.Poll(); ttl != 10 || wait != nil || err != nil {
			t.Errorf("fast %v: afterwards: %d, %v, waits %v", fast, ttl, err, wait != nil)
		}
		stop(t, x.Member)
	}
}

func TestAfterAStandstillRenewalsComeFirst(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	x.clock.Advance(time.Minute) // the process was stopped
	x.settle()
	x.wantLeft("at once", 1, 2)
	if ttl, err := x.renew(1); ttl != 10 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	x.pass(time.Second + 250*time.Millisecond)
	x.wantLeft("an election timeout later", 1)
}

// TestARenewalThatNobodyConfirmsTimesOut as any other request does: the leader was lost after it came, and there is no other one.
func TestARenewalThatNobodyConfirmsTimesOut(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), notAlone)
	cfg.RequestTimeout = 80 * time.Millisecond
	m := open(t, cfg)
	defer stop(t, m)
	r := Renewal{l: &m.lessor, id: 1, term: 1, read: m.node.BeginRead()}
	for range 20 {
		m.node.Tick()
		step(m)
	}
	if _, wait, err := r.Poll(); wait != nil || !errors.Is(err, ErrTimeout) {
		t.Errorf("%v, waits %t", err, wait != nil)
	}
}

func TestWithoutALeaderLeaseRequestsTimeOut(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), notAlone)
	cfg.RequestTimeout = 80 * time.Millisecond
	m := open(t, cfg)
	m.Start()
	defer stop(t, m)
	if _, err := m.LeaseRenew(t.Context(), 1); !errors.Is(err, ErrTimeout) {
		t.Errorf("a renewal: %v", err)
	}
	if _, err := m.LeaseTimeToLive(t.Context(), 1, false); !errors.Is(err, ErrTimeout) {
		t.Errorf("time to live: %v", err)
	}
	if _, err := m.Leases(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("a list: %v", err)
	}
}
