package member

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/lease"
)

// leaseKeysMax is about how many keys may hang on one lease: they all go in one revision, which must fit into memory. Puts
// that are under way at the same time may pass it by their number.
const leaseKeysMax = 1_000_000

// leaseKeyBytesMax is the same for the length of the keys together: a revoke writes it four times, in one batch of 4 GiB
// at most.
const leaseKeyBytesMax = 512 << 20

// leaseCost is what the quota must have room for when a lease is granted, in bytes.
const leaseCost = 64

// ErrLeaseFull is returned for a put on a lease that has leaseKeysMax keys, or leaseKeyBytesMax of them. It had no effect.
var ErrLeaseFull = errors.New("member: the lease has too many keys")

// LeaseHasRoom returns ErrLeaseFull when no more keys should be hung on a lease, and nil when there is no such lease.
func (m *Member) LeaseHasRoom(id int64) error {
	if t := m.leases(); t.KeyCount(id) >= leaseKeysMax || t.KeyBytes(id) >= leaseKeyBytesMax {
		return ErrLeaseFull
	}
	return nil
}

// LeaseKeysSize returns about how many bytes the keys of a lease take in memory, 0 when there is no such lease.
func (m *Member) LeaseKeysSize(id int64) int64 {
	const each = 48 // beside its bytes
	t := m.leases()
	return t.KeyBytes(id) + each*int64(t.KeyCount(id))
}

// leases returns the present generation's table.
func (m *Member) leases() *lease.Table { return m.gen.Load().leases }

// LeaseMinTTL is the least time to live that this member grants, in seconds: one and a half election timeouts, of which etcd drops
// a part of a tick.
func (m *Member) LeaseMinTTL() int64 {
	least := time.Duration(m.cfg.ElectionTicks*3/2) * m.cfg.TickInterval
	return int64((least + time.Second - 1) / time.Second)
}

// LeaseGrant grants a lease for ttl seconds, or LeaseMinTTL if that is more; with id 0 it chooses the id. It returns the
// lease and the revision. The error is lease.ErrExists or lease.ErrTTLTooLarge, or as CheckSpace's and Propose's.
func (m *Member) LeaseGrant(ctx context.Context, id, ttl int64) (lease.Lease, int64, error) {
	if err := m.CheckSpace(ctx, leaseCost); err != nil {
		return lease.Lease{}, 0, err
	}
	for id == 0 {
		id = int64(m.ids.next() & math.MaxInt64)
		if _, taken := m.leases().Get(id); taken {
			id = 0
		}
	}
	raw, err := proto.Marshal(&etcdserverpb.LeaseGrantRequest{ID: id, TTL: max(ttl, m.LeaseMinTTL())})
	if err != nil {
		return lease.Lease{}, 0, err
	}
	res, err := m.Propose(ctx, apply.CommandLeaseGrant, raw)
	if err != nil {
		return lease.Lease{}, 0, err
	}
	var granted etcdserverpb.LeaseGrantResponse
	if err := proto.Unmarshal(res.Body, &granted); err != nil {
		return lease.Lease{}, 0, fmt.Errorf("read what was granted: %w", err)
	}
	return lease.Lease{ID: granted.ID, TTL: granted.TTL}, res.Revision, nil
}

// revokesMax is how many revokes of clients may be under way as urgent proposals; further ones wait their turn. So a client
// that sends nothing else neither overtakes all others without end nor keeps leases from ending that are due.
const revokesMax = 1024

// LeaseRevoke ends a lease and deletes its keys, before whatever clients propose at the same time, unless very many are
// revoked. It returns the revision. The error is lease.ErrNotFound, or as Propose's.
func (m *Member) LeaseRevoke(ctx context.Context, id int64) (rev int64, err error) {
	raw, err := proto.Marshal(&etcdserverpb.LeaseRevokeRequest{ID: id})
	if err != nil {
		return 0, err
	}
	if m.lessor.revokes.Add(1) > revokesMax {
		m.lessor.revokes.Add(-1)
		res, err := m.Propose(ctx, apply.CommandLeaseRevoke, raw)
		return res.Revision, err
	}
	defer m.lessor.revokes.Add(-1)
	p, err := m.beginUrgent(Subject(ctx), apply.CommandLeaseRevoke, raw)
	if err != nil {
		return 0, err
	}
	res, err := p.wait(ctx)
	return res.Revision, err
}

// LeaseStatus is what is known of a lease. Times are in seconds.
type LeaseStatus struct {
	ID int64
	// Granted is its time to live, Remaining what is left of it, rounded down.
	Granted, Remaining int64
	// Keys hang on it, sorted; only where they were asked for.
	Keys [][]byte
}

// LeaseTimeToLive tells the state of a lease, with its keys if they are wanted. The error is lease.ErrNotFound, ErrTimeout,
// the context's, or one of ReadBarrier.
func (m *Member) LeaseTimeToLive(ctx context.Context, id int64, keys bool) (st LeaseStatus, err error) {
	err = m.asPrimary(ctx, func(term uint64) error {
		st, err = m.statusHere(ctx, term, id, keys)
		return err
	}, func(ctx context.Context, urls []string) error {
		there, err := m.others.TimeToLive(ctx, urls, id, keys)
		st = LeaseStatus(there)
		return err
	})
	return st, err
}

// statusHere tells the state of a lease as the primary of term, or returns ErrNotPrimary.
func (m *Member) statusHere(ctx context.Context, term uint64, id int64, keys bool) (st LeaseStatus, err error) {
	if err := m.barrierIn(ctx, term); err != nil {
		return st, err
	}
	if st, err = m.lessor.status(term, id); err != nil || !keys {
		return st, err
	}
	err = m.held(func(g *generation) (err error) {
		st.Keys, err = g.leases.Keys(g.db, id)
		return err
	})
	return st, err
}

// Leases returns the ids of all leases: at the primary the one that ends first in front, elsewhere in order of the ids.
// Errors are as of LeaseTimeToLive.
func (m *Member) Leases(ctx context.Context) (ids []int64, err error) {
	err = m.asPrimary(ctx, func(term uint64) error {
		if err := m.barrierIn(ctx, term); err != nil {
			return err
		}
		ids, err = m.lessor.inOrder(term)
		return err
	}, func(ctx context.Context, _ []string) error {
		ids, err = m.leaseIDs(ctx) // all members know which there are
		return err
	})
	return ids, err
}

// leaseIDs returns the ids of all leases in order.
func (m *Member) leaseIDs(ctx context.Context) ([]int64, error) {
	if err := m.ReadBarrier(ctx); err != nil {
		return nil, err
	}
	all := m.leases().List()
	ids := make([]int64, len(all))
	for i, l := range all {
		ids[i] = l.ID
	}
	slices.Sort(ids)
	return ids, nil
}

// barrierIn is ReadBarrier, or ErrNotPrimary when this member does not lead in term all the time.
func (m *Member) barrierIn(ctx context.Context, term uint64) error {
	err := m.ReadBarrier(ctx)
	if err == nil && !m.lessor.leads(term) {
		return ErrNotPrimary
	}
	return err
}

func (l *lessor) status(term uint64, id int64) (LeaseStatus, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x, found := l.m.leases().Get(id)
	x = l.m.raised(x)
	at, known := l.deadlines.Get(id)
	if e, ok := l.ending[id]; ok {
		at, known = e.at, true
	}
	switch {
	case l.term != term:
		return LeaseStatus{}, ErrNotPrimary
	case !found:
		return LeaseStatus{}, lease.ErrNotFound
	case !known:
		// It is about to be loaded, or to be noticed.
		at = l.now() + seconds(x.TTL)
	}
	left := max(at-l.now(), 0)
	return LeaseStatus{ID: id, Granted: x.TTL, Remaining: int64(left / time.Second)}, nil
}

// inOrder returns all leases as they will end.
func (l *lessor) inOrder(term uint64) ([]int64, error) {
	type lasting struct {
		id int64
		at time.Duration
	}
	l.mu.Lock()
	if l.term != term {
		l.mu.Unlock()
		return nil, ErrNotPrimary
	}
	all := make([]lasting, 0, l.deadlines.Len()+len(l.ending))
	for id, at := range l.deadlines.All {
		all = append(all, lasting{id, at})
	}
	for id, e := range l.ending {
		all = append(all, lasting{id, e.at})
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b lasting) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id))
	})
	ids := make([]int64, len(all))
	for i, x := range all {
		ids[i] = x.id
	}
	return ids, nil
}
