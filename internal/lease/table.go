package lease

import (
	"cmp"
	"errors"
	"slices"
	"sync"

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
	// ID is any number but 0; negative ones are as good.
	ID int64
	// TTL is the time to live as granted.
	TTL int64
	// Remaining is what was left at the last checkpoint; 0 when there was none.
	Remaining int64
}

// state is what is kept of each lease, beside its id.
type state struct {
	ttl, remaining int64
	keys, keyBytes int64 // how many hang on it, and their length together
}

func (s state) lease(id int64) Lease { return Lease{ID: id, TTL: s.ttl, Remaining: s.remaining} }

// Table holds all leases of one state database. Reading is safe from any goroutine; Begin and what follows belongs to
// apply.
type Table struct {
	db      *storage.DB
	observe func(Changed)

	mu     sync.RWMutex
	leases map[int64]state
}

// Load reads the leases of a state and counts their keys. It wraps storage.ErrCorrupt when a record cannot be read, or a
// key hangs on a lease that is not there.
func Load(db *storage.DB) (*Table, error) {
	t := &Table{db: db, leases: make(map[int64]state)}
	if err := t.loadLeases(); err != nil {
		return nil, err
	}
	if err := t.countKeys(); err != nil {
		return nil, err
	}
	return t, nil
}

// Get returns a lease.
func (t *Table) Get(id int64) (Lease, bool) {
	s, ok := t.get(id)
	if !ok {
		return Lease{}, false
	}
	return s.lease(id), true
}

func (t *Table) get(id int64) (state, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s, ok := t.leases[id]
	return s, ok
}

// Len returns the number of leases.
func (t *Table) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.leases)
}

// KeyCount returns how many keys hang on a lease, 0 when there is no such lease.
func (t *Table) KeyCount(id int64) int64 {
	s, _ := t.get(id)
	return s.keys
}

// KeyBytes returns the length of the keys that hang on a lease, together. To revoke it takes four times as much in one batch,
// and about 90 bytes for each key.
func (t *Table) KeyBytes(id int64) int64 {
	s, _ := t.get(id)
	return s.keyBytes
}

// List returns all leases as they are at one moment, sorted by id. They are the caller's.
func (t *Table) List() []Lease {
	t.mu.RLock()
	out := make([]Lease, 0, len(t.leases))
	for id, s := range t.leases {
		out = append(out, s.lease(id))
	}
	t.mu.RUnlock()
	slices.SortFunc(out, func(a, b Lease) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// All yields the leases of List. It holds no lock while it does.
func (t *Table) All(yield func(Lease) bool) {
	for _, l := range t.List() {
		if !yield(l) {
			return
		}
	}
}

// Changed is what one group of entries did to the leases, in the order in which the log first named them. A lease that was
// revoked and granted again is in both Revoked and Granted, so Revoked is to be looked at first; one that was granted and
// revoked is in neither.
type Changed struct {
	// Granted are the leases that were not there before.
	Granted []Lease
	// Revoked are the ids of those that are there no more.
	Revoked []int64
	// Checkpointed are those whose Remaining has changed.
	Checkpointed []Lease
}

// Observe sets who is told of each published change, by the goroutine that publishes, when readers see it. It must be
// called before the first change; fn must not block and owns what it is given.
func (t *Table) Observe(fn func(Changed)) { t.observe = fn }
