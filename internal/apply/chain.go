package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ChainVersion names what the chained hash covers and how (docs/format/state.md, "Chained hash").
const ChainVersion = 3

const (
	// epochEntries is after how many entries the chain begins anew. It is part of the format.
	epochEntries = 1 << 16
	// pointsMax is how many of the newest hashes are remembered.
	pointsMax = 1 << 14
)

var chainKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("chain"))

// errChain is wrapped when the record of a chain cannot be read.
var errChain = errors.New("the record of the chained hash cannot be read")

// Point is the chained hash after an entry. Two members may differ in Hash at equal Index and Base only if what they made of
// the entries between the two differs.
type Point struct {
	Index uint64
	// Base is the index behind which the chain began.
	Base uint64
	Hash uint64
}

// link is a chain's end.
type link struct {
	index, base, hash uint64
	// The epoch that ended at base; lastBase is base when there was none.
	lastBase, lastHash uint64
}

// next takes an entry's effect in: the records that it wrote, and the revisions after it.
func (l *link) next(index, term uint64, revision, compacted int64, effect []byte) {
	if start := index - 1; start%epochEntries == 0 && start > l.base {
		l.lastBase, l.lastHash = l.base, l.hash
		l.base, l.hash = start, 0
	}
	var b [48]byte
	for i, n := range [...]uint64{l.hash, index, term, uint64(revision), uint64(compacted), xxhash.Sum64(effect)} {
		binary.LittleEndian.PutUint64(b[8*i:], n)
	}
	l.index, l.hash = index, xxhash.Sum64(b[:])
}

func (l *link) encode() []byte {
	b := binary.AppendUvarint(nil, ChainVersion)
	b = binary.AppendUvarint(b, l.base)
	b = binary.AppendUvarint(b, l.lastBase)
	b = binary.BigEndian.AppendUint64(b, l.hash)
	return binary.BigEndian.AppendUint64(b, l.lastHash)
}

// decodeLink reads a record; known is false for one of another version.
func decodeLink(b []byte) (l link, known bool, err error) {
	var version uint64
	for _, n := range []*uint64{&version, &l.base, &l.lastBase} {
		v, w := binary.Uvarint(b)
		if w <= 0 {
			return link{}, false, errChain
		}
		if *n, b = v, b[w:]; version != ChainVersion {
			return link{}, false, nil
		}
	}
	if len(b) != 16 || l.lastBase > l.base {
		return link{}, false, errChain
	}
	l.hash, l.lastHash = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	return l, true, nil
}

// Chain is the chained hash of one state. The machine extends it; At and Newest may be called from any goroutine.
type Chain struct {
	mu     sync.RWMutex
	end    link
	origin uint64   // base of the epoch that the chain was in when it was loaded
	first  uint64   // smallest index remembered
	points []uint64 // hashes, that of index i at i % pointsMax

	fresh []uint64 // memory of a group's; the machine's
}

// LoadChain reads the chain of a state with the given applied index. A state without one begins an epoch.
func LoadChain(db *storage.DB, applied uint64) (*Chain, error) {
	c := &Chain{end: link{base: applied, lastBase: applied}, first: applied, points: make([]uint64, pointsMax)}
	_, err := db.Get(chainKey, func(b []byte) error {
		l, known, err := decodeLink(b)
		if err != nil || l.base > applied {
			return storage.Corruptf(db.Dir(), "%w (%x)", errChain, b)
		}
		if known {
			c.end = l
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the chained hash: %w", err)
	}
	c.end.index, c.origin = applied, c.end.base
	c.points[applied%pointsMax] = c.end.hash
	return c, nil
}

// Newest returns the point after the last entry applied.
func (c *Chain) Newest() Point {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return Point{c.end.index, c.end.base, c.end.hash}
}

// At returns the point after an entry, if it is remembered: those of the newest entries since the state was opened are.
func (c *Chain) At(index uint64) (p Point, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if index > c.end.index || index < c.first {
		return c.endOfEpoch(index)
	}
	base := c.origin
	if index > 0 {
		base = max(base, (index-1)/epochEntries*epochEntries)
	}
	if index == c.end.base && index > c.end.lastBase {
		return c.endOfEpoch(index)
	}
	return Point{index, base, c.points[index%pointsMax]}, true
}

// EndOfEpoch returns the point at the end of the epoch before the present one, if there was one.
func (c *Chain) EndOfEpoch() (Point, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.endOfEpoch(c.end.base)
}

func (c *Chain) endOfEpoch(index uint64) (Point, bool) {
	if index != c.end.base || c.end.lastBase == c.end.base {
		return Point{}, false
	}
	return Point{index, c.end.lastBase, c.end.lastHash}, true
}

// extend returns the chain's end, to be taken further by a group.
func (c *Chain) extend() chained {
	if c == nil {
		return chained{}
	}
	return chained{chain: c, link: c.end, fresh: c.fresh[:0]} // only the machine changes it
}

// chained takes a group's entries into the chain. The zero value does nothing.
type chained struct {
	chain *Chain
	link  link
	fresh []uint64 // hashes after the group's entries
}

// entry takes one in.
func (x *chained) entry(index, term uint64, revision, compacted int64, effect []byte) {
	if x.chain == nil {
		return
	}
	x.link.next(index, term, revision, compacted, effect)
	x.fresh = append(x.fresh, x.link.hash)
}

// store puts the chain's record into the group's batch.
func (x *chained) store(b *storage.Batch) error {
	if x.chain == nil {
		return nil
	}
	if err := b.Set(chainKey, x.link.encode(), nil); err != nil {
		return fmt.Errorf("store the chained hash: %w", err)
	}
	return nil
}

// publish shows the new points. REQUIRES: the batch is committed.
func (x *chained) publish() {
	c := x.chain
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, h := range x.fresh {
		c.points[(c.end.index+1+uint64(i))%pointsMax] = h
	}
	c.end, c.fresh = x.link, x.fresh
	if c.end.index >= pointsMax {
		c.first = max(c.first, c.end.index-pointsMax+1)
	}
}

// effect returns what was written into a batch since it had a length.
func effect(b *storage.Batch, since int) []byte {
	if b.Len() == since {
		return nil
	}
	return b.Repr()[since:]
}
