package watch

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// load is a version to read.
type load struct {
	record int
	rev    mvcc.Revision
	before bool
	absent bool // there is no such version
	from   int  // in values; not used when the version is encoded at once
	upto   int
}

// turn is where a load stands in the order of reading.
type turn struct {
	order uint64 // the bytes of the key that follow those common to all
	load  int
}

// plan lists the versions to read, in the order in which they are stored: then the iterator only goes forward, which makes it
// several times as fast as in the order of revisions.
func (c *chunk) plan() {
	c.phase = loading
	c.loads, c.turns, c.loaded, c.values, c.bytes = c.loads[:0], c.turns[:0], 0, c.values[:0], 0
	c.arena, c.out = arena{}, make([]encoded, len(c.records))
	c.common = c.commonPrefix()
	for i := range c.records {
		r := &c.records[i]
		r.kv, r.before = 0, 0
		c.out[i].rev = r.rev.Main
		order := order(c.key(r)[c.common:])
		if r.kind == mvcc.EventPut {
			c.turns = append(c.turns, turn{order, len(c.loads)})
			c.loads = append(c.loads, load{record: i, rev: r.rev})
		}
		if r.withPrev && !r.prev.IsZero() && r.prev.Main != r.rev.Main && r.rev.Main > c.compact {
			c.turns = append(c.turns, turn{order, len(c.loads)})
			c.loads = append(c.loads, load{record: i, rev: r.prev, before: true})
		}
	}
	slices.SortFunc(c.turns, func(s, t turn) int {
		if s.order != t.order {
			return cmp.Compare(s.order, t.order)
		}
		a, b := &c.loads[s.load], &c.loads[t.load]
		if by := bytes.Compare(c.key(&c.records[a.record]), c.key(&c.records[b.record])); by != 0 {
			return by
		}
		if a.rev.Main != b.rev.Main {
			return cmp.Compare(b.rev.Main, a.rev.Main)
		}
		return cmp.Compare(b.rev.Sub, a.rev.Sub)
	})
}

// commonPrefix returns how many bytes all keys begin with.
func (c *chunk) commonPrefix() int {
	if len(c.records) == 0 {
		return 0
	}
	first := c.key(&c.records[0])
	n := len(first)
	for i := range c.records {
		key := c.key(&c.records[i])
		for n = min(n, len(key)); !bytes.Equal(key[:n], first[:n]); n-- {
		}
	}
	return n
}

// order returns the first eight bytes of a key as a number that is ordered as they are; shorter keys are filled up.
func order(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// load reads up to stepLoads of the versions. It returns errTooLarge when all are too large and the chunk can be halved.
func (s *Stream) load(v *mvcc.View) (done bool, err error) {
	c := &s.reading.chunk
	defer s.holdChunk()
	before := c.bytes
	versions := v.Versions()
	for n := 0; n < stepLoads && c.loaded < len(c.loads) && c.bytes-before < stepBytes; n++ {
		if n%stepYield == 0 {
			runtime.Gosched()
		}
		if err := c.read(versions); err != nil {
			return false, err
		}
		if c.bytes > chunkBytesMax && c.severalRevisions() {
			return false, errTooLarge
		}
	}
	if c.loaded < len(c.loads) {
		return false, nil
	}
	err = c.finish(v)
	return err == nil, err
}

// read reads the next version: into the event if that needs nothing else, otherwise into values.
func (c *chunk) read(versions *mvcc.VersionReader) error {
	i := c.loaded
	c.loaded++
	l := &c.loads[c.turns[i].load]
	r := &c.records[l.record]
	if i > 0 && c.withPrev {
		if last := &c.loads[c.turns[i-1].load]; c.sameVersion(l, last) {
			l.from, l.upto, l.absent = last.from, last.upto, last.absent
			return l.check()
		}
	}
	kv, found, err := versions.At(c.key(r), l.rev)
	if err != nil {
		return err
	}
	l.absent = !found
	if err := l.check(); err != nil {
		return err
	}
	raw := kv.Raw()
	c.bytes += len(raw)
	if !c.withPrev {
		e := c.arena.event(r.kind, raw, nil)
		c.out[l.record].plain, c.out[l.record].withPrev = e, e
		return nil
	}
	l.from = len(c.values)
	c.values = append(c.values, raw...)
	l.upto = len(c.values)
	return nil
}

// check returns an error if the version must be there and is not. What was before a change may have been compacted.
func (l *load) check() error {
	if l.absent && !l.before {
		return fmt.Errorf("the version %d/%d that history names is missing", l.rev.Main, l.rev.Sub)
	}
	return nil
}

func (c *chunk) sameVersion(a, b *load) bool {
	return a.rev == b.rev && bytes.Equal(c.key(&c.records[a.record]), c.key(&c.records[b.record]))
}

// finish encodes what is not encoded yet.
func (c *chunk) finish(v *mvcc.View) error {
	if c.withPrev {
		for i := range c.loads {
			r := &c.records[c.loads[i].record]
			if c.loads[i].before {
				r.before = i + 1
			} else {
				r.kv = i + 1
			}
		}
		if err := c.loadHidden(v); err != nil {
			return err
		}
	}
	var tombstone []byte
	for i := range c.records {
		r := &c.records[i]
		if r.kind == mvcc.EventPut && !c.withPrev {
			continue
		}
		if i%stepYield == 0 {
			runtime.Gosched()
		}
		kv, before := c.value(r.kv), c.value(r.before)
		if r.kind == mvcc.EventDelete {
			tombstone = appendTombstone(tombstone[:0], c.key(r), r.rev.Main)
			kv = tombstone
		}
		c.encode(i, kv, before)
	}
	c.values = c.values[:0]
	return nil
}

// encode encodes a change once, or twice if it is wanted with and without the version before.
func (c *chunk) encode(i int, kv, before []byte) {
	r, out := &c.records[i], &c.out[i]
	if r.plain || len(before) == 0 {
		out.plain = c.arena.event(r.kind, kv, nil)
		out.withPrev = out.plain
	}
	if r.withPrev && len(before) > 0 {
		out.withPrev = c.arena.event(r.kind, kv, before)
	}
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
		_, err := v.Range(mvcc.RangeOptions{Key: c.key(r), Rev: r.rev.Main - 1, SkipCount: true}, func(kv mvcc.KV) error {
			c.values = append(c.values, kv.Raw()...)
			return nil
		})
		if err != nil {
			return err
		}
		c.bytes += len(c.values) - from
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

// arenaPiece is the size of a piece of an arena.
const arenaPiece = 256 << 10

// arena holds encoded events side by side in pieces that are never moved.
type arena struct{ piece []byte }

// event encodes an event.
func (a *arena) event(kind mvcc.EventKind, kv, before []byte) []byte {
	if n := eventSize(len(kv), len(before)); n > cap(a.piece)-len(a.piece) {
		if n > arenaPiece/4 {
			e := appendEvent(make([]byte, 0, n), kind, kv, before)
			return e[:len(e):len(e)]
		}
		a.piece = make([]byte, 0, arenaPiece)
	}
	from := len(a.piece)
	a.piece = appendEvent(a.piece, kind, kv, before)
	return a.piece[from:len(a.piece):len(a.piece)]
}

// stage stages the chunk for those who want it.
func (s *Stream) stage() {
	r := &s.reading
	c := &r.chunk
	s.hub.encoded.Add(uint64(len(c.out)))
	for _, hit := range c.hits {
		st := r.staging.of(hit.w)
		st.events = append(st.events, &c.out[hit.record])
	}
	if n := len(c.records); n > 0 {
		s.records = min(max(n*chunkBytes/max(1, c.bytes), chunkRecordsMin), chunkRecordsMax)
	}
}
