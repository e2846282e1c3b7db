package mvcc

import (
	"bytes"
	"hash/crc32"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// Sizes of newest. The versions of some 20,000 keys of 32 bytes with values of 256 are kept; larger ones than newestMax cost little
// to read beside what their answers cost.
const (
	newestBytes    = 8 << 20
	newestMax      = 4 << 10
	newestOverhead = 96 // bytes of an entry without its version
	newestSlots    = 1 << 15
	newestWays     = 4
	newestMarks    = 1 << 14
	// newestSteps is how many slots are looked at, at most, to make room for one version.
	newestSteps = 64
)

// newest keeps the newest versions of keys that are read again and again, so that to read one more time needs no iterator. Reads of
// one key at the current revision look here first, and put here what they found elsewhere.
//
// An entry says what a key's newest version was at some revision. Each key belongs to a mark, which holds the last revision that
// changed a key of that mark. A Writer moves the marks of what its group changed BEFORE the group is published. So for a reader
// that has taken the published revision R, and looks at the mark only then:
//
//  1. the mark is at or above every revision up to R that changed the key;
//  2. an entry of revision E with the mark at or below E is what the key had at R, when E <= R: nothing changed it in between;
//  3. so is one with E > R whose version is not newer than R, as it is the newest one at E.
//
// An entry may be put at any time after it was read: if the key was changed meanwhile, its mark says so. Nothing waits, and
// versions are never changed, so they are given out without a copy.
//
// At the bound of its bytes, whatever comes next goes. A key is kept once it is read a second time, so that a walk through
// all keys moves nothing.
type newest struct {
	marks [newestMarks]atomic.Int64
	// asked holds, for each mark, the hash of the last key that was looked for and not found.
	asked [newestMarks]atomic.Uint32
	slots atomic.Pointer[newestTable] // made with the first entry
	bytes atomic.Int64
	hand  atomic.Uint32

	answered measure.Counter
}

// newestTable holds sets of newestWays slots.
type newestTable [newestSlots]atomic.Pointer[newestEntry]

// newestEntry is never changed.
type newestEntry struct {
	key []byte // in kv
	kv  KV
	mod int64 // the version's revision
	at  int64 // the revision at which it was the newest version
}

func (e *newestEntry) bytes() int64 { return int64(cap(e.kv.raw)) + newestOverhead }

// places returns where a key's entry may be, and its mark.
func (n *newest) places(key []byte) (hash uint32, set, mark int) {
	hash = crc32.Checksum(key, castagnoli)
	return hash, int(hash%(newestSlots/newestWays)) * newestWays, int((hash >> 16) % newestMarks)
}

// get returns the newest version of key at the revision p, if it is kept. REQUIRES: p was published before the call.
func (n *newest) get(key []byte, p *published) (kv KV, ok bool) {
	table := n.slots.Load()
	if table == nil {
		return KV{}, false
	}
	_, set, mark := n.places(key)
	for i := set; i < set+newestWays; i++ {
		e := table[i].Load()
		if e != nil && bytes.Equal(e.key, key) {
			return e.kv, e.mod <= p.revision && n.marks[mark].Load() <= e.at
		}
	}
	return KV{}, false
}

// put takes in what was read: kv, of the revision mod, is the newest version of key at the revision at. It copies kv.
func (n *newest) put(key []byte, kv KV, mod, at int64) {
	if len(kv.raw) > newestMax {
		return
	}
	hash, set, mark := n.places(key)
	if n.marks[mark].Load() > at {
		return // nobody could use it
	}
	table := n.slots.Load()
	if table == nil {
		if n.asked[mark].Swap(hash) != hash {
			return
		}
		n.slots.CompareAndSwap(nil, new(newestTable))
		table = n.slots.Load()
	}
	slot, old := n.place(table, key, set)
	if (old == nil || !bytes.Equal(old.key, key)) && n.asked[mark].Swap(hash) != hash {
		return
	}
	own := kv.Clone()
	e := &newestEntry{key: own.Key(), kv: own, mod: mod, at: at}
	if !n.room(table, e.bytes()) {
		return
	}
	freed := e.bytes()
	if slot.CompareAndSwap(old, e) {
		freed = 0
		if old != nil {
			freed = old.bytes()
		}
	} // else another reader was faster
	n.bytes.Add(-freed)
}

// place returns the slot of a set for key, and what is in it: the one that it has, else an empty one, else any.
func (n *newest) place(table *newestTable, key []byte, set int) (slot *atomic.Pointer[newestEntry], old *newestEntry) {
	for i := set; i < set+newestWays; i++ {
		s := &table[i]
		e := s.Load()
		if e != nil && bytes.Equal(e.key, key) {
			return s, e
		}
		if slot == nil || e == nil && old != nil {
			slot, old = s, e
		}
	}
	if old != nil {
		slot = &table[set+int(n.hand.Add(1)%newestWays)]
		old = slot.Load()
	}
	return slot, old
}

// room counts so many bytes, for which others may have to go. It is false, and nothing is counted, when there is no room.
func (n *newest) room(table *newestTable, size int64) bool {
	if n.bytes.Add(size) <= newestBytes {
		return true
	}
	for range newestSteps {
		s := &table[n.hand.Add(1)%newestSlots]
		e := s.Load()
		if e != nil && s.CompareAndSwap(e, nil) && n.bytes.Add(-e.bytes()) <= newestBytes {
			return true
		}
	}
	n.bytes.Add(-size)
	return false
}

// changed moves the marks of what a group changed, up to the revision rev. REQUIRES: the group is not yet published.
func (n *newest) changed(o *overlay, rev int64) {
	for _, part := range [][]*touched{o.sorted, o.fresh} {
		for _, t := range part {
			_, _, mark := n.places(t.key)
			n.marks[mark].Store(rev)
		}
	}
}

// Newest answers a range of one key at the current revision from memory, if the key's newest version is kept there, as ok tells.
// kv is the zero KV when the range gives nothing out. It stays valid, and must not be changed. The answer is that of a View opened
// by the same call.
func (s *Store) Newest(o RangeOptions) (kv KV, res RangeResult, ok bool) {
	if len(o.End) != 0 || o.Rev > 0 || s.gate.closed.Load() {
		return KV{}, RangeResult{}, false
	}
	p := s.now.Load()
	found, ok := s.newest.get(o.Key, p)
	if !ok {
		return KV{}, RangeResult{}, false
	}
	s.newest.answered.Inc()
	q := query{o: o, rev: p.revision}
	switch r := (record{found.raw}); {
	case !q.one(r):
	case o.KeysOnly:
		kv = q.withoutValue(r)
	default:
		kv = found
	}
	return kv, RangeResult{Count: q.count, Rev: p.revision}, true
}
