package sim

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// Leases are few, so that keys meet on them, and short, so that they end.
const (
	leasesMax = 6
	ttlMin    = 2
	ttlMax    = 9
)

// terms knows for each lease until when it must not end by itself. Ids are never used twice.
type terms struct {
	last  int64
	until map[int64]time.Time
	asked map[int64]bool // a client wants it revoked: it may end at any time

	renewed, expired int
}

func (t *terms) init() {
	t.until, t.asked = map[int64]time.Time{}, map[int64]bool{}
}

// granted is called when the first member applies a grant.
func (t *terms) granted(w *World, id, ttl int64) {
	if !w.history.again {
		t.until[id] = w.clock.Now().Add(seconds(ttl))
	}
}

// ended is called when the first member applies the end of a lease.
func (t *terms) ended(w *World, id int64) {
	if t.asked[id] || w.history.again {
		return
	}
	if left := t.until[id].Sub(w.clock.Now()); left > 0 {
		w.fail("lease %d ended %v before its time", id, left)
	}
	t.expired++
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// someLease is one that is there, or 0.
func (w *World) someLease() int64 {
	if len(w.history.model.leases) == 0 {
		return 0
	}
	n := w.rng.Intn(len(w.history.model.leases))
	for id := range sorted(w.history.model.leases) {
		if n--; n < 0 {
			return id
		}
	}
	return 0
}

// randomLeaseWrite grants a lease, or revokes one.
func (w *World) randomLeaseWrite() *write {
	id := w.someLease()
	if id == 0 || len(w.history.model.leases) < leasesMax && w.rng.Intn(4) > 0 {
		w.terms.last++
		return &write{apply.CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{
			ID: w.terms.last, TTL: ttlMin + w.rng.Int63n(ttlMax-ttlMin),
		}}
	}
	w.terms.asked[id] = true
	return &write{apply.CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: id}}
}

// renewal is a client that keeps a lease alive.
type renewal struct {
	h  *host
	id int64
	r  *member.Renewal
}

func (w *World) stepRenew() {
	serves := func(h *host) bool { return running(h) && h.readable() && h.m.Trusted() == nil }
	h := w.pick(func(h *host) bool { return serves(h) && h.m.Node().IsLeader() })
	if h == nil || w.rng.Intn(8) == 0 {
		h = w.pick(serves)
	}
	id := w.someLease()
	if h == nil || id == 0 || len(w.renewals) >= leasesMax {
		return
	}
	r := h.m.BeginLeaseRenew(id)
	w.renewals = append(w.renewals, renewal{h, id, &r})
}

// renewed reports whether a renewal is over.
func (w *World) renewed(x renewal) bool {
	ttl, wait, err := x.r.Poll()
	_, there := w.history.model.leases[x.id]
	switch {
	case wait != nil:
		return w.rng.Intn(400) == 0 // its client gives up
	case x.h.m.Trusted() != nil: // it does not say so
	case err == nil:
		w.terms.renewed++
		w.terms.until[x.id] = w.clock.Now().Add(seconds(ttl))
		if !there && !w.terms.asked[x.id] {
			w.fail("member %d has renewed lease %d, which has ended", x.h.n, x.id)
		}
	case errors.Is(err, lease.ErrNotFound):
		// It was there when the renewal began.
		if there {
			w.fail("member %d says that there is no lease %d", x.h.n, x.id)
		}
	case errors.Is(err, member.ErrNotPrimary), errors.Is(err, consensus.ErrReadTimeout), errors.Is(err, member.ErrLeaderChanged):
	case errors.Is(err, member.ErrStopped) && isClosed(x.h.m.Removed()):
	default:
		x.h.failedTo(fmt.Sprintf("renew lease %d", x.id), err)
	}
	return true
}

// stepLessor lets members look at the clock.
func (w *World) stepLessor() {
	for _, h := range w.hosts {
		if running(h) {
			h.m.LeaseStep()
		}
	}
}

// checkLeases compares a member's leases with the model, which it has come up with.
func (w *World) checkLeases(h *host) {
	all := h.m.LeaseTable().List()
	for _, l := range all {
		want, ok := w.history.model.leases[l.ID]
		if !ok || l.TTL != want.ttl {
			w.fail("member %d has lease %d with a time to live of %d, the model %v", h.n, l.ID, l.TTL, want)
		}
		if n := h.m.LeaseTable().KeyCount(l.ID); n != int64(len(want.keys)) {
			w.fail("member %d has %d keys on lease %d, the model %d", h.n, n, l.ID, len(want.keys))
		}
	}
	if len(all) != len(w.history.model.leases) {
		w.fail("member %d has %d leases, the model %d", h.n, len(all), len(w.history.model.leases))
	}
}

// ExpireLeases lets time pass until no lease is left. REQUIRES: Settle was called.
func (w *World) ExpireLeases() {
	// The longest lease, a new leader's grace, and as much again.
	for range 2 * (ttlMax + 2) * int(time.Second/tick) {
		if len(w.history.model.leases) == 0 {
			return
		}
		w.stepTick()
		for range 4 {
			w.round()
		}
	}
	w.fail("leases do not end: %v%s", w.history.model.leases, w.describe())
}

// randomLease hangs a quarter of the puts on a lease, which may have ended.
func (w *World) randomLease() int64 {
	if w.rng.Intn(4) > 0 {
		return 0
	}
	if w.rng.Intn(8) == 0 && w.terms.last > 0 {
		return 1 + w.rng.Int63n(w.terms.last)
	}
	return w.someLease()
}
