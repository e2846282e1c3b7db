package proxy

import (
	"bytes"
	"container/list"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// cacheEntriesMax and cacheBytesMax bound what is kept; the answer that was not asked for longest goes first.
	cacheEntriesMax = 2048
	cacheBytesMax   = 32 << 20
	// cacheEntryMax is the size above which an answer is not kept.
	cacheEntryMax = 1 << 20
	// cacheAgeMax is how long an answer is good for. A member that serves serializable reads may lag as much.
	cacheAgeMax = time.Second
)

// cache keeps answers to serializable reads.
type cache struct {
	clock    clock.Clock
	measures *measures

	mu      sync.Mutex
	entries map[cacheKey]*list.Element            // of *cached
	points  map[string]map[*list.Element]struct{} // those of single keys
	ranges  map[*list.Element]struct{}            // all others
	recent  list.List                             // the newest in front
	bytes   int
	writes  uint64 // how many there were: an answer that was asked for before one is not kept after it
}

// cacheKey is a request as it was encoded, and who has sent it.
type cacheKey struct {
	who     identity
	request string
}

type cached struct {
	key      cacheKey
	from, to []byte
	answer   *etcdserverpb.RangeResponse
	size     int
	until    time.Time
}

func newCache(c clock.Clock, m *measures) *cache {
	return &cache{clock: c, measures: m, entries: map[cacheKey]*list.Element{},
		points: map[string]map[*list.Element]struct{}{}, ranges: map[*list.Element]struct{}{}}
}

func keyOfRead(who identity, q *etcdserverpb.RangeRequest) (cacheKey, bool) {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(q)
	return cacheKey{who, string(encoded)}, err == nil
}

// get returns the answer to a request, nil if there is none. The number is to be given to add. The answer is shared.
func (c *cache) get(who identity, q *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, uint64) {
	key, ok := keyOfRead(who, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[key]; ok && e != nil {
		if have := e.Value.(*cached); c.clock.Now().Before(have.until) {
			c.recent.MoveToFront(e)
			c.measures.hits.Add(1)
			return have.answer, c.writes
		}
		c.remove(e)
	}
	c.measures.misses.Add(1)
	return nil, c.writes
}

// add keeps an answer, unless something was written since get returned the number. The answer belongs to the cache.
func (c *cache) add(who identity, q *etcdserverpb.RangeRequest, r *etcdserverpb.RangeResponse, writes uint64) {
	key, ok := keyOfRead(who, q)
	size := len(key.request) + len(who.token) + len(who.authorization) + len(who.leader) + proto.Size(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !ok || writes != c.writes || size > cacheEntryMax {
		return
	}
	if e := c.entries[key]; e != nil {
		c.remove(e)
	}
	e := c.recent.PushFront(&cached{key: key, from: q.Key, to: q.RangeEnd, answer: r, size: size,
		until: c.clock.Now().Add(cacheAgeMax)})
	c.entries[key] = e
	if point := string(q.Key); len(q.RangeEnd) > 0 {
		c.ranges[e] = struct{}{}
	} else if c.points[point] != nil {
		c.points[point][e] = struct{}{}
	} else {
		c.points[point] = map[*list.Element]struct{}{e: {}}
	}
	c.bytes += size
	for len(c.entries) > cacheEntriesMax || c.bytes > cacheBytesMax {
		c.remove(c.recent.Back())
	}
	c.measures.keys.Store(int64(len(c.entries)))
}

// forget drops what a write to a key, or to a range, may have changed.
func (c *cache) forget(key, end []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if len(c.entries) == 0 {
		return
	}
	drop := func(e *list.Element) {
		if have := e.Value.(*cached); overlap(have.from, have.to, key, end) {
			c.remove(e)
		}
	}
	for e := range c.ranges {
		drop(e)
	}
	if len(end) == 0 {
		for e := range c.points[string(key)] {
			c.remove(e)
		}
		return
	}
	for e := c.recent.Front(); e != nil; {
		next := e.Next()
		drop(e)
		e = next
	}
}

// clear drops everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	for c.recent.Len() > 0 {
		c.remove(c.recent.Front())
	}
}

// remove drops an entry. REQUIRES: c.mu is held.
func (c *cache) remove(e *list.Element) {
	have := c.recent.Remove(e).(*cached)
	delete(c.entries, have.key)
	delete(c.ranges, e)
	if p := c.points[string(have.from)]; p != nil {
		if delete(p, e); len(p) == 0 {
			delete(c.points, string(have.from))
		}
	}
	c.bytes -= have.size
	c.measures.keys.Store(int64(len(c.entries)))
}

// overlap tells whether two keys or ranges, in the form of requests, have a key in common.
func overlap(a, aEnd, b, bEnd []byte) bool {
	return before(a, b, bEnd) && before(b, a, aEnd)
}

// before tells whether key is below the end of the range that begins at from.
func before(key, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Compare(key, from) <= 0
	case len(end) == 1 && end[0] == 0:
		return true
	}
	return bytes.Compare(key, end) < 0
}
