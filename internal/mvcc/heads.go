package mvcc

import (
	"encoding/binary"
	"hash/crc32"
)

// head is what a put needs to know of a key's newest version. The zero value says that the key is not there.
type head struct {
	at              Revision // zero when not live
	create, version int64
	size            int // of the version's KeyValue
	lease           int64
}

// Sizes of heads. A record of a key of 32 bytes takes 45 to 50 bytes, so some 500,000 keys are remembered. Longer keys
// than headKeyMax are left out.
const (
	headKeyMax    = 512
	headMax       = 6 * binary.MaxVarintLen64 // of an encoded head
	headRecordMax = headKeyMax + 2 + headMax
	headChunk     = 256 << 10
	headChunks    = 96
	headRing      = headChunk * headChunks
	headWays      = 8 // a set is a line of the processor's caches
	headSetsMin   = 1 << 7
	headSetsMax   = 1 << 16
)

// heads remembers the newest versions of keys that were written lately, so that a put to one of them reads nothing. It
// belongs to the one who holds the Writer, and holds committed state only: it learns shortly before the commit, but after one that fails nothing is
// written any more.
//
// Records (key and head) are written one after another into a ring of chunks; the oldest ones are written over. A record
// that is not old is replaced where it is if the new one is as long, so that the ring grows with the keys of a small store
// and not with the puts to them. A table of sets says where a key's newest record is. There are no pointers in either: what is
// remembered costs the garbage collector nothing, and there is nothing to allocate once the ring is full.
type heads struct {
	chunks [headChunks][]byte // made when first written to
	end    uint64             // where the next record may begin, counted through all rounds of the ring

	// table holds sets of headWays slots. A slot is 16 bits of the key's hash above the place of its record plus one;
	// 0 is empty. A place that the ring has passed since is as good as empty.
	table []uint64
	used  int // slots that are not empty

	asked uint64 // of no meaning: what is read is to be used
}

const headPlaceBits = 48

// get returns the head of key, if it is remembered.
func (h *heads) get(key []byte) (head, bool) {
	if len(h.table) == 0 {
		return head{}, false
	}
	return h.getHashed(key, hashOfHead(key))
}

func (h *heads) getHashed(key []byte, hash uint32) (head, bool) {
	set, tag := h.set(hash)
	for _, slot := range set {
		if b, ok := h.record(slot, tag, key); ok {
			return decodeHead(b), true
		}
	}
	return head{}, false
}

// expectedKey is a key that a group will put. find sets the fields below.
type expectedKey struct {
	key          []byte
	wantPrevious bool // all of the version before, not its head alone

	remembered bool
	head       head
}

// headsAtOnce is for how many keys find waits for memory at once.
const headsAtOnce = 32

// find gets the heads of keys. Table and ring are in none of the processor's caches for the most part, so all slots are asked for before any is looked
// at, and all records before any is compared: the waits for memory are beside each other.
func (h *heads) find(keys []expectedKey) {
	if len(h.table) == 0 {
		return
	}
	var hashes [headsAtOnce]uint32
	var slots [headsAtOnce]uint64
	var asked uint64
	for len(keys) > 0 {
		some := keys[:min(len(keys), headsAtOnce)]
		for i := range some {
			hashes[i] = hashOfHead(some[i].key)
			asked += h.table[h.first(hashes[i])]
		}
		for i := range some {
			slots[i] = h.slot(hashes[i])
		}
		for i := range some {
			if slot := slots[i]; slot != 0 {
				at := place(slot)
				b := h.chunks[at/headChunk%headChunks][at%headChunk:]
				asked += uint64(b[0]) + uint64(b[min(2+len(some[i].key), len(b)-1)])
			}
		}
		for i := range some {
			if x := &some[i]; slots[i] != 0 {
				x.head, x.remembered = h.getHashed(x.key, hashes[i])
			}
		}
		keys = keys[len(some):]
	}
	h.asked = asked
}

// slot returns the first of the slots that may hold a key of this hash that has its tag, 0 when there is none.
func (h *heads) slot(hash uint32) uint64 {
	set, tag := h.set(hash)
	for _, slot := range set {
		if slot != 0 && slot>>headPlaceBits<<headPlaceBits == tag && h.there(slot) {
			return slot
		}
	}
	return 0
}

func hashOfHead(key []byte) uint32 { return crc32.Checksum(key, castagnoli) }

// first returns where in the table the set of a key of this hash begins.
func (h *heads) first(hash uint32) int { return int(hash) & (len(h.table)/headWays - 1) * headWays }

// set returns the slots that may hold a key of this hash, and its tag in them.
func (h *heads) set(hash uint32) (slots []uint64, tag uint64) {
	at := h.first(hash)
	return h.table[at : at+headWays : at+headWays], uint64(hash>>16) << headPlaceBits
}

// record returns what stands behind the key of the record that a slot names, if that is there still and is key's.
func (h *heads) record(slot, tag uint64, key []byte) (rest []byte, ok bool) {
	if slot == 0 || slot>>headPlaceBits<<headPlaceBits != tag || !h.there(slot) {
		return nil, false
	}
	own, rest := h.split(slot)
	return rest, string(own) == string(key)
}

// place is where a slot's record begins.
func place(slot uint64) uint64 { return slot&(1<<headPlaceBits-1) - 1 }

// there tells whether the ring still holds the record of a slot that is not empty.
func (h *heads) there(slot uint64) bool { return h.end-place(slot) <= headRing }

// split returns the key of a record, and what is behind it. REQUIRES: it is there.
func (h *heads) split(slot uint64) (key, rest []byte) {
	at := place(slot)
	b := h.chunks[at/headChunk%headChunks][at%headChunk:]
	n := int(binary.LittleEndian.Uint16(b))
	return b[2 : 2+n], b[2+n:]
}

// put remembers x as the head of key.
func (h *heads) put(key []byte, x head) {
	if len(key) > headKeyMax {
		return
	}
	h.grow()
	set, tag := h.set(hashOfHead(key))
	victim, oldest := 0, uint64(1<<headPlaceBits)
	for i, slot := range set {
		if rest, ok := h.record(slot, tag, key); ok {
			if h.end-place(slot) <= headRing/2 && replaceHead(rest, x) {
				return
			}
			victim = i
			break
		}
		age := slot & (1<<headPlaceBits - 1) // 0 when empty
		if age < oldest {
			victim, oldest = i, age
		}
	}
	if set[victim] == 0 {
		h.used++
	}
	set[victim] = tag | (h.append(key, x) + 1)
}

// append writes a record and returns its place.
func (h *heads) append(key []byte, x head) uint64 {
	if headChunk-h.end%headChunk < headRecordMax {
		h.end += headChunk - h.end%headChunk
	}
	c := &h.chunks[h.end/headChunk%headChunks]
	if *c == nil {
		*c = make([]byte, headChunk)
	}
	at := h.end
	start := at % headChunk
	b := binary.LittleEndian.AppendUint16((*c)[start:start], uint16(len(key)))
	b = appendHead(append(b, key...), x)
	h.end += uint64(len(b))
	return at
}

func appendHead(b []byte, x head) []byte {
	for _, n := range [...]uint64{
		uint64(x.at.Main), uint64(x.at.Sub), uint64(x.create), uint64(x.version), uint64(x.size), uint64(x.lease),
	} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func decodeHead(b []byte) head {
	var n [6]uint64
	for i := range n {
		v, w := binary.Uvarint(b)
		n[i], b = v, b[w:]
	}
	return head{
		at: Revision{int64(n[0]), uint32(n[1])}, create: int64(n[2]), version: int64(n[3]), size: int(n[4]), lease: int64(n[5]),
	}
}

// replaceHead writes x over the head at the beginning of b, if it is as long.
func replaceHead(b []byte, x head) bool {
	var buf [headMax]byte
	own := appendHead(buf[:0], x)
	// What ends a number is the only byte of it without the highest bit.
	ends := 0
	for _, c := range b[:len(own)] {
		if c < 0x80 {
			ends++
		}
	}
	if ends != 6 || b[len(own)-1] >= 0x80 {
		return false
	}
	copy(b, own)
	return true
}

// grow makes the table larger when half of it is used, until it has its full size.
func (h *heads) grow() {
	if 2*h.used < len(h.table) || len(h.table) == headSetsMax*headWays {
		return
	}
	old := h.table
	h.table = make([]uint64, max(headSetsMin*headWays, min(4*len(old), headSetsMax*headWays)))
	h.used = 0
	for _, slot := range old {
		if slot == 0 || !h.there(slot) {
			continue
		}
		key, _ := h.split(slot)
		set, _ := h.set(hashOfHead(key))
		for i := range set {
			if set[i] == 0 {
				set[i] = slot
				h.used++
				break
			}
		}
	}
}

// learn takes in what a group has written that is being committed.
func (h *heads) learn(o *overlay) {
	for _, part := range [][]*touched{o.sorted, o.fresh} {
		for _, t := range part {
			h.put(t.key, headOf(record{t.newest.raw}, t.newest.rev))
		}
	}
}

// headOf returns the head that a version is.
func headOf(r record, at Revision) head {
	if !r.live() {
		return head{}
	}
	f, size := r.fields()
	return head{at: at, create: f.create, version: f.version, size: size, lease: f.lease}
}
