package lease

import (
	"errors"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Bounds of a lease's time to live, in seconds, as in etcd.
const (
	MinTTL = 2
	MaxTTL = 9_000_000_000
)

var (
	// ErrNotFound is returned for a lease that does not exist.
	ErrNotFound = errors.New("lease: requested lease not found")
	// ErrExists is returned when a lease is granted whose id is taken.
	ErrExists = errors.New("lease: lease already exists")
	// ErrTTLTooLarge is returned when a lease is granted for more than MaxTTL.
	ErrTTLTooLarge = errors.New("lease: too large lease TTL")
)

// Lease is one lease. Times are in seconds.
type Lease struct {
	ID  int64
	TTL int64
	// Remaining is what was left at the last checkpoint; 0 when there was none.
	Remaining int64
}

// Table holds all leases of one state database. Reading is safe from any goroutine; Begin and what follows belongs to
// apply.
type Table struct{}

// Load reads the leases of a state.
func Load(*storage.DB) (*Table, error) { return &Table{}, nil }

// Get returns a lease.
func (t *Table) Get(int64) (Lease, bool) { return Lease{}, false }

// Changed is what one group of entries did to the leases.
type Changed struct {
	Granted      []Lease
	Revoked      []int64
	Checkpointed []Lease
}

// Observe sets who is told of each published change. It must be called before the first change; fn must not block.
func (t *Table) Observe(func(Changed)) {}

// Begin starts a group's change; its records go into b.
func (t *Table) Begin(*storage.Batch) *Change { return &Change{} }

// Change is what one group of entries does to the leases.
type Change struct{}

// Get returns a lease as the group sees it.
func (c *Change) Get(int64) (Lease, bool) { return Lease{}, false }

// Publish makes the change visible, after its batch was committed.
func (c *Change) Publish() {}
