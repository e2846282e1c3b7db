package watch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sort"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Bounds of a chunk. A chunk ends at the end of a revision, so one revision may exceed them all.
const (
	chunkRecordsMax = 1024    // changes: a few milliseconds of work, so that others have their turn
	chunkRecordsMin = 16      // when values are large
	chunkScanMax    = 65536   // changes looked at
	chunkHitsMax    = 65536   // changes times watchers
	chunkBytes      = 4 << 20 // bytes of values wanted
	chunkBytesMax   = 4 * chunkBytes
)

var (
	errEnough   = errors.New("the chunk is full")
	errTooLarge = errors.New("the chunk is too large")
)

// chunk is a stretch of history: the changes that somebody wants. Its memory is used again.
type chunk struct {
	records []record
	hits    []hit
	keys    []byte // of the records
	loads   []load
	values  []byte // of the loads
	lists   []*watcher
	compact int64 // the compact revision of the view
}

// record is one change of the chunk.
type record struct {
	rev, prev        mvcc.Revision
	key              []byte
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

// load is a version to read.
type load struct {
	record     int
	rev        mvcc.Revision
	before     bool
	from, upto int // in values
}

// readChunk stages history from the revision from for those who are behind, and returns the revision up to which that
// is complete, which is below from when some were canceled instead.
func (s *Stream) readChunk(ctx context.Context, from, to int64) (upto int64, err error) {
	v, err := s.view(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := v.Close(); err == nil {
			err = cerr
		}
	}()
	c := &s.reading.chunk
	c.compact = v.CompactRevision()
	if from < c.compact {
		s.cancelCompacted(c.compact)
		return 0, nil
	}
	upto, err = s.collect(v, from, min(to, v.Current()))
	if err != nil {
		return 0, fmt.Errorf("reading history for a watcher: %w", err)
	}
	for {
		err = c.load(v)
		if !errors.Is(err, errTooLarge) {
			break
		}
		upto = c.halve()
	}
	if err != nil {
		return 0, fmt.Errorf("reading versions for a watcher: %w", err)
	}
	s.stage(c.encode())
	if n := len(c.records); n > 0 {
		s.records = min(max(n*chunkBytes/max(1, len(c.values)), chunkRecordsMin), chunkRecordsMax)
	}
	return upto, nil
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

// collect finds the changes of [from, to] that somebody wants and returns the last revision looked at.
func (s *Stream) collect(v *mvcc.View, from, to int64) (upto int64, err error) {
	c := &s.reading.chunk
	c.records, c.hits, c.keys = c.records[:0], c.hits[:0], c.keys[:0]
	seen, last := 0, from-1
	err = v.History(from, to, func(e mvcc.Event) error {
		full := seen >= chunkScanMax || len(c.records) >= s.records || len(c.hits) >= chunkHitsMax
		if full && e.Rev.Main != last {
			return errEnough
		}
		seen, last = seen+1, e.Rev.Main
		c.match(&s.reading.index, e)
		return nil
	})
	for i := range c.records {
		r := &c.records[i]
		r.key = c.keys[r.keyFrom:r.keyUpto]
	}
	if errors.Is(err, errEnough) {
		return last, nil
	}
	return to, err
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
				r.withPrev = true
			} else {
				r.plain = true
			}
			c.hits = append(c.hits, hit{w, len(c.records) - 1})
		}
	}
}

// load reads the versions that the records need. In the order of keys the iterator only goes forward, which makes
// it several times as fast as in the order of revisions. Returns errTooLarge when they are too large and the chunk can be
// halved.
func (c *chunk) load(v *mvcc.View) error {
	c.plan()
	c.values = c.values[:0]
	versions := v.Versions()
	for i := range c.loads {
		l := &c.loads[i]
		if i > 0 && c.sameVersion(l, &c.loads[i-1]) {
			l.from, l.upto = c.loads[i-1].from, c.loads[i-1].upto
			continue
		}
		kv, found, err := versions.At(c.records[l.record].key, l.rev)
		if err != nil {
			return err
		}
		if !found && !l.before {
			return fmt.Errorf("the version %d/%d that history names is missing", l.rev.Main, l.rev.Sub)
		}
		l.from = len(c.values)
		c.values = append(c.values, kv.Raw()...)
		l.upto = len(c.values)
		if l.upto > chunkBytesMax && c.severalRevisions() {
			return errTooLarge
		}
	}
	for i := range c.loads {
		r := &c.records[c.loads[i].record]
		if c.loads[i].before {
			r.before = i + 1
		} else {
			r.kv = i + 1
		}
	}
	return c.loadHidden(v)
}

// plan lists the versions to read, in the order in which they are stored.
func (c *chunk) plan() {
	c.loads = c.loads[:0]
	for i := range c.records {
		r := &c.records[i]
		r.kv, r.before = 0, 0
		if r.kind == mvcc.EventPut {
			c.loads = append(c.loads, load{record: i, rev: r.rev})
		}
		if r.withPrev && !r.prev.IsZero() && r.prev.Main != r.rev.Main && r.rev.Main > c.compact {
			c.loads = append(c.loads, load{record: i, rev: r.prev, before: true})
		}
	}
	slices.SortFunc(c.loads, func(a, b load) int {
		if order := bytes.Compare(c.records[a.record].key, c.records[b.record].key); order != 0 {
			return order
		}
		if a.rev.Main != b.rev.Main {
			return cmp.Compare(b.rev.Main, a.rev.Main)
		}
		return cmp.Compare(b.rev.Sub, a.rev.Sub)
	})
}

func (c *chunk) sameVersion(a, b *load) bool {
	return a.rev == b.rev && bytes.Equal(c.records[a.record].key, c.records[b.record].key)
}

// loadHidden reads the versions before changes that follow another change of the same key in the same revision: the one
// of the revision before counts. A key that the revision itself created had none.
func (c *chunk) loadHidden(v *mvcc.View) error {
	for i := range c.records {
		r := &c.records[i]
		if !r.withPrev || r.prev.Main != r.rev.Main || r.rev.Main <= c.compact ||
			isCreated(r.kind, c.value(r.kv), r.rev.Main) {
			continue
		}
		from := len(c.values)
		_, err := v.Range(mvcc.RangeOptions{Key: r.key, Rev: r.rev.Main - 1, SkipCount: true}, func(kv mvcc.KV) error {
			c.values = append(c.values, kv.Raw()...)
			return nil
		})
		if err != nil {
			return err
		}
		c.loads = append(c.loads, load{record: i, before: true, from: from, upto: len(c.values)})
		r.before = len(c.loads)
	}
	return nil
}

// value returns what a load has read, nil for place 0.
func (c *chunk) value(place int) []byte {
	if place == 0 {
		return nil
	}
	l := &c.loads[place-1]
	return c.values[l.from:l.upto]
}

func (c *chunk) severalRevisions() bool {
	return c.records[0].rev.Main != c.records[len(c.records)-1].rev.Main
}

// halve drops the later half of the revisions and returns the last one left. REQUIRES: several revisions.
func (c *chunk) halve() (upto int64) {
	first := c.records[0].rev.Main
	main := c.records[len(c.records)/2].rev.Main
	n := sort.Search(len(c.records), func(i int) bool {
		at := c.records[i].rev.Main
		return at >= main && at > first
	})
	upto = c.records[n].rev.Main - 1
	c.records = c.records[:n]
	c.hits = c.hits[:sort.Search(len(c.hits), func(i int) bool { return c.hits[i].record >= n })]
	return upto
}

// encode encodes each change once, or twice if it is wanted with and without the version before.
func (c *chunk) encode() []encoded {
	size := 0
	for i := range c.records {
		r := &c.records[i]
		size += eventSize(max(len(c.value(r.kv)), eventSize(len(r.key), 0)), 0)
		if b := len(c.value(r.before)); b > 0 {
			size += eventSize(max(len(c.value(r.kv)), eventSize(len(r.key), 0)), b)
		}
	}
	out := make([]encoded, len(c.records))
	arena := make([]byte, 0, size)
	var tombstone []byte
	for i := range c.records {
		r := &c.records[i]
		kv, before := c.value(r.kv), c.value(r.before)
		if r.kind == mvcc.EventDelete {
			tombstone = appendTombstone(tombstone[:0], r.key, r.rev.Main)
			kv = tombstone
		}
		out[i].rev = r.rev.Main
		if r.plain || len(before) == 0 {
			from := len(arena)
			arena = appendEvent(arena, r.kind, kv, nil)
			out[i].plain = arena[from:len(arena):len(arena)]
			out[i].withPrev = out[i].plain
		}
		if r.withPrev && len(before) > 0 {
			from := len(arena)
			arena = appendEvent(arena, r.kind, kv, before)
			out[i].withPrev = arena[from:len(arena):len(arena)]
		}
	}
	return out
}

// stage stages the encoded changes for those who want them.
func (s *Stream) stage(events []encoded) {
	r := &s.reading
	s.hub.encoded.Add(uint64(len(events)))
	for _, hit := range r.chunk.hits {
		st := r.staging.of(hit.w)
		st.events = append(st.events, &events[hit.record])
	}
}
