package apply

import (
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Fields of LeaseGrantResponse.
const (
	grantID  = 2
	grantTTL = 3
)

// leases returns the group's change of the leases.
func (g *group) leases() *lease.Change {
	if g.leaseChange == nil {
		g.leaseChange = g.m.leases.Begin(g.w.Batch())
	}
	return g.leaseChange
}

// closeLeases ends the group's change of the leases, published or not. All it could report was reported when it was read.
func (g *group) closeLeases() {
	if g.leaseChange != nil {
		_ = g.leaseChange.Close()
	}
}

// leaseExists tells whether a put may name a lease.
func (g *group) leaseExists(id int64) bool { return g.leases().Exists(id) }

// leaseGrant applies a LeaseGrantRequest.
func (g *group) leaseGrant(raw []byte) ([]byte, error) {
	var r etcdserverpb.LeaseGrantRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	id := r.GetID()
	if err := g.leases().Grant(id, r.GetTTL()); err != nil {
		return nil, err
	}
	l, _ := g.leases().Get(id)
	return appendNumber(appendNumber(nil, grantID, l.ID), grantTTL, l.TTL), nil
}

// leaseRevoke applies a LeaseRevokeRequest: the lease and all its keys go, in the order of the keys and in one revision.
func (g *group) leaseRevoke(raw []byte) error {
	var r etcdserverpb.LeaseRevokeRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	id := r.GetID()
	if err := g.leases().Revoke(id); err != nil {
		return err
	}
	keys, err := g.leases().Keys(id)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := g.w.DeleteRange(key, nil, nil); err != nil {
			return err
		}
		g.m.counts.Deletes.Inc()
	}
	g.m.counts.did(0, len(keys))
	return nil
}

// leaseCheckpoint applies a LeaseCheckpointRequest. A lease may be gone by then; those that are there count all the same.
func (g *group) leaseCheckpoint(raw []byte) error {
	var r etcdserverpb.LeaseCheckpointRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, c := range r.GetCheckpoints() {
		if err := g.leases().Checkpoint(c.GetID(), c.GetRemaining_TTL()); err != nil {
			return err
		}
	}
	return nil
}

// checkLeases checks, in builds that do, that the keys that an entry changed hang where their newest versions say, if that lease is
// there, and nowhere else. It does so right after the entry: a later one may grant the lease of a key that hangs on nothing.
func (g *group) checkLeases(events []mvcc.Event) error {
	if !invariant.Enabled || g.leaseChange == nil {
		return nil
	}
	newest := make(map[string]int64)
	for _, e := range events {
		newest[string(e.Key)] = e.Lease
	}
	for _, e := range events {
		for _, id := range []int64{e.Lease, e.PrevLease} {
			if id == 0 {
				continue
			}
			there, err := g.leaseChange.Attached(id, e.Key)
			if err != nil {
				return err
			}
			want := newest[string(e.Key)] == id && g.leaseExists(id)
			invariant.Check(there == want, "the key %q hangs on the lease %x: %t; its newest version on %x",
				e.Key, uint64(id), there, uint64(newest[string(e.Key)]))
		}
	}
	return nil
}

// attach hangs the keys that an entry changed on their leases, and takes them off those they hung on.
func (g *group) attach(events []mvcc.Event) error {
	for i := range events {
		e := &events[i]
		hang := e.Lease != 0
		var err error
		switch {
		case e.Lease == e.PrevLease:
			hang, err = g.hangsOnNothing(e)
		case e.PrevLease != 0:
			err = g.leases().Detach(e.PrevLease, e.Key)
		}
		if err == nil && hang {
			err = g.leases().Attach(e.Lease, e.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hangsOnNothing tells whether a key that was put with the lease it had before does not hang on it, though it is there: when it was taken
// over from etcd it may have named one that was gone, whose id was granted anew since. Only a version that may be of that kind is looked
// up: of a key once after a start, and once after each put that keeps a lease that is gone.
func (g *group) hangsOnNothing(e *mvcc.Event) (bool, error) {
	if e.Lease == 0 || e.Prev.Main > g.m.mayHangOnNothing {
		return false, nil
	}
	if !g.leaseExists(e.Lease) {
		g.m.mayHangOnNothing = e.Rev.Main
		return false, nil
	}
	there, err := g.leases().Attached(e.Lease, e.Key)
	if err != nil {
		return false, fmt.Errorf("look for a key on the lease %x: %w", uint64(e.Lease), err)
	}
	return !there, nil
}
