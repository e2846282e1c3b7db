package storage

import (
	"sync"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2"
)

// The block cache is reserved in steps, a sixteenth of it each. Memtables are reserved by Pebble itself and may take
// half of a state's cache when writes are ahead of flushes: with the steps below some of it is left even then.
const (
	reserveSteps    = 16
	reserveStepsMax = 7
)

// blockCache is the block cache of a database, with what is reserved of it.
type blockCache struct {
	cache *pebble.Cache
	bytes int64 // while it is not wide
	step  int64

	mu     sync.Mutex
	wanted int64    // by all callers
	taken  []func() // give back one step each
	closed bool
	wide
}

func newBlockCache(bytes int64, c clock.Clock) *blockCache {
	b := &blockCache{cache: pebble.NewCache(wideFactor * bytes), bytes: bytes, step: max(1, bytes/reserveSteps), wide: wide{clock: c}}
	for b.narrower() {
	}
	return b
}

// want changes what all callers want by n bytes, and reserves as much of it as may be. Nothing is left to do after close.
func (c *blockCache) want(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.wanted += n
	steps := int(min((c.wanted+c.step-1)/c.step, reserveStepsMax))
	for len(c.taken) < steps {
		c.taken = append(c.taken, c.cache.Reserve(int(c.step)))
	}
	c.giveBack(steps)
}

// giveBack leaves at most so many steps reserved. REQUIRES: mu is held.
func (c *blockCache) giveBack(steps int) {
	for len(c.taken) > steps {
		last := len(c.taken) - 1
		c.taken[last]()
		c.taken = c.taken[:last]
	}
}

// close gives up the cache. Pebble keeps it as long as its database is open.
func (c *blockCache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveBack(0)
	c.spread()
	c.closed = true
	c.cache.Unref()
}

func (c *blockCache) reserved() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.taken)) * c.step
}

// ReserveCache makes the block cache smaller by about bytes until release is called, for a reader that holds as much
// in memory itself. All callers together get at most 7/16 of the cache; what is wanted above that, nobody gets. It may
// be called at any time, by many at once, and so may release, also again and after Close.
func (db *DB) ReserveCache(bytes int64) (release func()) {
	db.cache.want(bytes)
	return sync.OnceFunc(func() { db.cache.want(-bytes) })
}
