package storage

import (
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// wideFactor is how many times as large as otherwise the block cache may become while it is wide.
	wideFactor = 2
	// wideFor is how long it stays wide after the last walk: who has read everything often does so again.
	wideFor = 5 * time.Second
	// narrowEvery is how long lies between two steps on the way back: readers wait for each, and for all at once they would for some tens
	// of milliseconds.
	narrowEvery = 50 * time.Millisecond
)

// wide is what makes a block cache larger while walks over very many keys go on. A cache that is a little smaller than what is walked
// over again and again has lost each block shortly before the walk comes to it, and to find one to give up costs Pebble more than to
// read one. So the cache is made as large as it may ever become, and what is too much is reserved while it is not wide. blockCache.mu
// guards it.
type wide struct {
	clock clock.Clock
	spare []func()    // give back one step each of what is reserved because it is only for walks
	walks int         // that have not ended
	timer clock.Timer // takes the next step back, nil before the first walk has ended
}

// widen makes the cache wide until some time after end is called.
func (c *blockCache) widen() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.walks++
	c.spread()
	return sync.OnceFunc(c.walked)
}

// spread makes the cache wide. REQUIRES: mu is held.
func (c *blockCache) spread() {
	for _, release := range c.spare {
		release()
	}
	c.spare = c.spare[:0]
}

// walked says that a walk has ended.
func (c *blockCache) walked() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.walks--; {
	case c.walks > 0 || c.closed:
	case c.timer == nil:
		c.timer = c.clock.AfterFunc(wideFor, c.stepBack)
	default:
		c.timer.Reset(wideFor)
	}
}

// stepBack makes the cache narrower if no walk goes on.
func (c *blockCache) stepBack() {
	if c.isNarrow() {
		giveBackHeap()
	}
}

// isNarrow takes a step back, if no walk goes on, and tells whether it was the last one.
func (c *blockCache) isNarrow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.walks > 0 || c.closed {
		return false
	}
	if c.narrower() {
		c.timer.Reset(narrowEvery)
		return false
	}
	return true
}

// narrower reserves one step more, and tells whether the cache is still wider than usual. REQUIRES: mu is held, or nobody else has the cache
// yet.
func (c *blockCache) narrower() bool {
	if len(c.spare) < reserveSteps*(wideFactor-1) {
		c.spare = append(c.spare, c.cache.Reserve(int(c.step)))
	}
	return len(c.spare) < reserveSteps*(wideFactor-1)
}

// most returns what the cache may hold at present.
func (c *blockCache) most() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wideFactor*c.bytes - int64(len(c.spare)+len(c.taken))*c.step
}

// WidenCache makes the block cache twice as large, until some seconds after end is called, for a walk over very many keys. If not even that
// would hold all of them, it stays as it is. It may be called at any time before Close, by many at once, and so may end, also again
// and after Close.
func (db *DB) WidenCache() (end func()) {
	left := uint64(wideFactor * db.cache.bytes)
	for _, space := range []byte{SpaceData, SpaceLarge} {
		bytes, err := db.p.EstimateDiskUsage(SpaceBounds(space))
		if err != nil || bytes > left {
			return func() {}
		}
		left -= bytes
	}
	return db.cache.widen()
}
