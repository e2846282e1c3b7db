package watch

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"sync"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of a chunk. A chunk ends at the end of a revision, so one revision may exceed them all. The more changes it has, the
// nearer to each other lie the versions that are read for it, and the less each costs.
const (
	chunkRecordsMax    = 65536    // changes of all streams that read at one time
	chunkRecordsShared = 16384    // and at least, of one of them
	chunkRecordsMin    = 16       // when values are large, and where there is no room for more
	chunkScanMax       = 1 << 17  // changes looked at
	chunkHitsMax       = 65536    // changes times watchers
	chunkKeysMax       = 4 << 20  // bytes of keys
	chunkBytes         = 16 << 20 // bytes of values wanted
	chunkBytesMax      = 2 * chunkBytes
	recordCost         = 256 // bytes of memory that a change takes beside its key and value, about
)

// Bounds of a step, which is what is done of a chunk before others have their turn: about a millisecond of work.
const (
	stepScan  = 4096
	stepLoads = 512
	stepBytes = 1 << 20
	// stepYield is how many changes are looked at or read before whoever waits for the processor has it.
	stepYield = 64
)

var (
	errEnough   = errors.New("the chunk is full")
	errTooLarge = errors.New("the chunk is too large")
)

// phase is how far a chunk has come.
type phase uint8

const (
	idle phase = iota
	collecting
	loading
)

// chunk is a stretch of history: the changes that somebody wants. It is made in steps, each with a view of its own, so that
// no view is held while others have their turn. Its memory is used again, but for what is encoded.
type chunk struct {
	phase   phase
	from    int64 // the first revision
	to      int64 // the last revision there was when it began
	upto    int64 // the last revision looked at, whole
	compact int64 // the compact revision of the last step's view

	seen     int // changes looked at
	records  []record
	hits     []hit
	keys     []byte // of the records
	withPrev bool   // some version before is wanted

	loads  []load
	turns  []turn // those that are read one after another
	loaded int    // how many are read
	bytes  int    // of the values read
	common int    // bytes that all keys begin with
	values []byte
	arena  arena
	out    []encoded

	lists []*watcher
}

// record is one change of the chunk.
type record struct {
	rev, prev        mvcc.Revision
	kind             mvcc.EventKind
	plain, withPrev  bool // somebody wants it so
	kv, before       int  // places of the loads, counted from 1
	keyFrom, keyUpto int
}

// hit is a watcher that wants a change.
type hit struct {
	w      *watcher
	record int
}

func (c *chunk) key(r *record) []byte { return c.keys[r.keyFrom:r.keyUpto:r.keyUpto] }

// chunks are chunks that nobody needs, for their memory.
var chunks sync.Pool

// begin starts a chunk of the revisions [from, to].
func (c *chunk) begin(from, to int64) {
	if c.records == nil {
		if used, ok := chunks.Get().(*chunk); ok {
			*c = *used
		}
	}
	c.clear()
	c.phase, c.from, c.to, c.upto = collecting, from, to, from-1
}

// clear forgets the chunk and keeps its memory.
func (c *chunk) clear() {
	clear(c.hits[:cap(c.hits)])
	*c = chunk{
		records: c.records[:0], hits: c.hits[:0], keys: c.keys[:0], loads: c.loads[:0], turns: c.turns[:0], values: c.values[:0],
	}
}

// recycle forgets the chunk and leaves its memory, unless there is very much of it, to the next one of any stream: a client that
// is slow to read holds what is encoded, and no more.
func (c *chunk) recycle() {
	if c.clear(); c.records != nil && cap(c.records) <= 2*chunkRecordsMax && cap(c.hits) <= 2*chunkHitsMax &&
		cap(c.keys) <= 2*chunkKeysMax && cap(c.values) <= chunkBytes {
		used := *c
		invariant.Poison(used.keys)
		invariant.Poison(used.values)
		chunks.Put(&used)
	}
	*c = chunk{}
}

// stepChunk does a step of the chunk that was begun; done says that it is staged, or that some were canceled instead.
func (s *Stream) stepChunk(ctx context.Context) (done bool, err error) {
	v, err := s.view(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := v.Close(); err == nil {
			err = cerr
		}
	}()
	c := &s.reading.chunk
	if compact := v.CompactRevision(); compact != c.compact {
		if c.from <= compact && c.seen > 0 {
			c.begin(c.from, c.to) // what was found may be gone
		}
		c.compact = compact
	}
	if c.from < c.compact {
		s.cancelCompacted(c.compact)
		c.phase = idle
		return true, nil
	}
	if c.phase == collecting {
		full, err := s.collect(v)
		s.holdChunk()
		if err != nil {
			return false, fmt.Errorf("reading history for a watcher: %w", err)
		}
		if full {
			c.plan()
		}
		return false, nil
	}
	for {
		done, err = s.load(v)
		if !errors.Is(err, errTooLarge) {
			break
		}
		c.halve()
	}
	if err != nil {
		return false, fmt.Errorf("reading versions for a watcher: %w", err)
	}
	if done {
		s.stage()
	}
	return done, nil
}

// view opens a view of the newest store.
func (s *Stream) view(ctx context.Context) (*mvcc.View, error) {
	for {
		v, err := s.hub.o.View(0)
		switch {
		case err == nil:
			return v, nil
		case !errors.Is(err, mvcc.ErrRetired):
			return nil, fmt.Errorf("opening a view for a watcher: %w", err)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s.hub.closed.Load():
			return nil, ErrClosed
		}
		runtime.Gosched() // the one who retired the store puts the new one in its place
	}
}

// collect goes on to find changes that somebody wants, up to stepScan of them all. full says that the chunk has what it may
// have.
func (s *Stream) collect(v *mvcc.View) (full bool, err error) {
	c := &s.reading.chunk
	to, records := min(c.to, v.Current()), s.recordsMax()
	n, last := 0, c.upto
	err = v.History(c.upto+1, to, func(e mvcc.Event) error {
		if e.Rev.Main != last {
			full = c.seen >= chunkScanMax || len(c.records) >= records || len(c.hits) >= chunkHitsMax || len(c.keys) >= chunkKeysMax
			if full || n >= stepScan {
				return errEnough
			}
		}
		if n++; n%stepYield == 0 {
			runtime.Gosched()
		}
		last = e.Rev.Main
		c.seen++
		c.match(&s.reading.index, e)
		return nil
	})
	if errors.Is(err, errEnough) {
		c.upto = last
		return full, nil
	}
	c.upto = max(c.upto, to)
	return true, err
}

// match takes in a change if somebody wants it.
func (c *chunk) match(x *index, e mvcc.Event) {
	c.lists = x.match(e.Key, c.lists[:0])
	wanted := false
	for _, w := range c.lists {
		for ; w != nil; w = w.after {
			if !w.wants(e.Kind, e.Rev.Main) {
				continue
			}
			if !wanted {
				wanted = true
				from := len(c.keys)
				c.keys = append(c.keys, e.Key...)
				c.records = append(c.records, record{
					rev: e.Rev, prev: e.Prev, kind: e.Kind, keyFrom: from, keyUpto: len(c.keys),
				})
			}
			r := &c.records[len(c.records)-1]
			if w.want&wantPrev != 0 {
				r.withPrev, c.withPrev = true, true
			} else {
				r.plain = true
			}
			c.hits = append(c.hits, hit{w, len(c.records) - 1})
		}
	}
}

// cost is what the chunk takes of memory, about.
func (c *chunk) cost() int { return c.bytes + len(c.keys) + recordCost*len(c.records) }

func (c *chunk) severalRevisions() bool {
	return c.records[0].rev.Main != c.records[len(c.records)-1].rev.Main
}

// halve drops the later half of the revisions; what was read is read again. REQUIRES: several revisions.
func (c *chunk) halve() {
	first := c.records[0].rev.Main
	main := c.records[len(c.records)/2].rev.Main
	n := sort.Search(len(c.records), func(i int) bool {
		at := c.records[i].rev.Main
		return at >= main && at > first
	})
	c.upto = c.records[n].rev.Main - 1
	c.records = c.records[:n]
	c.hits = c.hits[:sort.Search(len(c.hits), func(i int) bool { return c.hits[i].record >= n })]
	c.plan()
}
