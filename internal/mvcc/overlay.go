package mvcc

import (
	"bytes"
	"slices"
	"sort"
	"unsafe"
)

// version is one version written by the group, in a chain to the older ones of its key. raw is the whole KeyValue, nil for a tombstone.
type version struct {
	rev   Revision
	raw   []byte
	older *version
}

// touched is a key that the group has written.
type touched struct {
	key      []byte
	baseLive bool // it was live before the group
	newest   version
}

// visible returns the newest version at or below rev, nil when the group's are all above it: then the base has it.
func (t *touched) visible(rev int64) *version {
	for v := &t.newest; v != nil; v = v.older {
		if v.rev.Main <= rev {
			return v
		}
	}
	return nil
}

// overlay is what a group has written so far, above the state that it started from. A map finds keys; the ordered view
// for ranges is made when one is asked for: what came since the last time is sorted and merged in.
//
// Its own memory serves one group after another (reset). That of keys and versions is not its own.
type overlay struct {
	byKey  map[string]*touched
	sorted []*touched
	fresh  []*touched
	slab   []touched // those of the group's keys for which there was room here

	most int // keys of a group since the memory is this
	few  int // groups in turn that had far fewer
}

// Bounds of an overlay's memory: touchedMax is how many places it takes at once, overlayKept the keys of a group up to which it is kept. To empty a map costs
// what it has room for, so it is not kept once overlayFew groups in turn had less than a sixteenth of the most.
const (
	touchedMax  = 512
	overlayKept = 1024
	overlayFew  = 16
)

func (o *overlay) get(key []byte) *touched { return o.byKey[string(key)] }

// add puts a key into the overlay. key must stay unchanged as long as the overlay lives.
func (o *overlay) add(key []byte, baseLive bool, v version) {
	if o.byKey == nil {
		o.byKey = make(map[string]*touched)
	}
	if len(o.slab) == cap(o.slab) { // those before stay where they are: the map has them
		o.slab = make([]touched, 0, min(max(4, 2*len(o.byKey)), touchedMax))
	}
	o.slab = append(o.slab, touched{key: key, baseLive: baseLive, newest: v})
	t := &o.slab[len(o.slab)-1]
	o.byKey[unsafe.String(unsafe.SliceData(key), len(key))] = t
	o.fresh = append(o.fresh, t)
}

// reset empties the overlay for the next group. REQUIRES: nothing of it is used any more, not even a place in it.
func (o *overlay) reset() {
	o.most = max(o.most, len(o.byKey))
	if o.few++; len(o.byKey) > o.most/16 {
		o.few = 0
	}
	if o.most > overlayKept || o.few == overlayFew {
		*o = overlay{}
		return
	}
	// It must hold on to no version either.
	clear(o.byKey)
	clear(o.fresh)
	clear(o.slab)
	o.sorted, o.fresh, o.slab = nil, o.fresh[:0], o.slab[:0]
}

// update puts a newer version on top of t's.
func (t *touched) update(rev Revision, raw []byte) {
	older := t.newest
	t.newest = version{rev: rev, raw: raw, older: &older}
}

// in returns the keys of [key, end) that the group touched, in order. It is valid until a key is added.
func (o *overlay) in(key, end []byte) []*touched {
	o.sort()
	from := sort.Search(len(o.sorted), func(i int) bool { return bytes.Compare(o.sorted[i].key, key) >= 0 })
	to := len(o.sorted)
	if !bytes.Equal(end, fromKeyOn) {
		to = sort.Search(len(o.sorted), func(i int) bool { return bytes.Compare(o.sorted[i].key, end) >= 0 })
	}
	return o.sorted[from:max(from, to)]
}

func (o *overlay) sort() {
	if len(o.fresh) == 0 {
		return
	}
	slices.SortFunc(o.fresh, func(a, b *touched) int { return bytes.Compare(a.key, b.key) })
	o.sorted = mergeTouched(o.sorted, o.fresh)
	clear(o.fresh)
	o.fresh = o.fresh[:0]
}

// mergeTouched merges two slices of different keys, each in order, into one.
func mergeTouched(a, b []*touched) []*touched {
	out := make([]*touched, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(a[0].key, b[0].key) < 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// deltas returns the keys that became live or ceased to be, in order.
func (o *overlay) deltas() []countDelta {
	var out []countDelta
	for _, part := range [][]*touched{o.sorted, o.fresh} {
		for _, t := range part {
			switch live := t.newest.raw != nil; {
			case live && !t.baseLive:
				out = append(out, countDelta{t.key, 1})
			case !live && t.baseLive:
				out = append(out, countDelta{t.key, -1})
			}
		}
	}
	slices.SortFunc(out, func(a, b countDelta) int { return bytes.Compare(a.key, b.key) })
	return out
}

// countDifference returns by how much the number of live keys in [key, end) at rev differs from that of the base.
// REQUIRES: rev is not below the base's revision.
func (o *overlay) countDifference(key, end []byte, rev int64) (n int64) {
	for _, t := range o.in(key, end) {
		v := t.visible(rev)
		switch {
		case v == nil:
		case v.raw != nil && !t.baseLive:
			n++
		case v.raw == nil && t.baseLive:
			n--
		}
	}
	return n
}

// mergeCursor is a cursor over the base with the overlay's keys on top of it.
type mergeCursor struct {
	base      cursor
	rev       int64
	over      []*touched
	backwards bool

	baseOK, useBase bool
	current         *version
	currentKey      []byte
}

func newMergeCursor(base cursor, over []*touched, rev int64, backwards bool) *mergeCursor {
	if backwards {
		over = slices.Clone(over)
		slices.Reverse(over)
	}
	return &mergeCursor{base: base, rev: rev, over: over, backwards: backwards, useBase: true}
}

func (c *mergeCursor) failure() error { return c.base.failure() }

func (c *mergeCursor) key() []byte {
	if c.useBase {
		return c.base.key()
	}
	return c.currentKey
}

func (c *mergeCursor) record() record {
	if c.useBase {
		return c.base.record()
	}
	return record{c.current.raw}
}

func (c *mergeCursor) next() bool {
	if c.useBase {
		c.baseOK = c.base.next()
	}
	for c.baseOK || len(c.over) > 0 {
		order := c.compare()
		if order < 0 {
			c.useBase = true
			return true
		}
		t := c.over[0]
		v := t.visible(c.rev)
		c.over = c.over[1:]
		if v == nil {
			continue // the base has the version to read, if any
		}
		if order == 0 {
			c.baseOK = c.base.next()
		}
		if v.raw != nil {
			c.useBase, c.current, c.currentKey = false, v, t.key
			return true
		}
	}
	c.useBase = false
	return false
}

// compare tells which comes next: below 0 the base, above 0 the overlay, 0 both with one key.
func (c *mergeCursor) compare() int {
	switch {
	case len(c.over) == 0:
		return -1
	case !c.baseOK:
		return 1
	case c.backwards:
		return bytes.Compare(c.over[0].key, c.base.key())
	}
	return bytes.Compare(c.base.key(), c.over[0].key)
}
