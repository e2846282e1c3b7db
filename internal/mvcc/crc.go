package mvcc

import (
	"hash/crc32"
	"slices"
)

// hashRecordsMax is how many records a pass of a hash remembers; it may hold twice as many for a moment, 24 bytes each.
const hashRecordsMax = 1 << 20

// recordHash is the CRC-32C of one record of size bytes.
type recordHash struct {
	rev  Revision
	crc  uint32
	size uint32
}

type recordHashes []recordHash

func (r recordHashes) sort() {
	slices.SortFunc(r, func(a, b recordHash) int { return compareRevisions(a.rev, b.rev) })
}

// join returns the CRC of what crc is the CRC of, followed by all records in order of revision.
func (r recordHashes) join(crc uint32) uint32 {
	r.sort()
	for i := range r {
		crc = crcJoin(crc, r[i].crc, r[i].size)
	}
	return crc
}

// crcJoin returns the CRC-32C of two texts, one behind the other, from that of each and the length of the second: to
// append n bytes multiplies the CRC, read as a polynomial, by x to the power of 8n, and the CRC of those bytes is added.
func crcJoin(a, b uint32, n uint32) uint32 {
	for i := 0; n > 0; i, n = i+1, n>>8 {
		if d := n & 0xff; d > 0 {
			a = crcMultiply(a, crcPowers[i][d])
		}
	}
	return a ^ b
}

// crcOne is the polynomial 1 in the reflected order of bits that the CRC has: the highest bit is x to the power of 0.
const crcOne = 1 << 31

// crcPowers[i][d] is x to the power of 8·d·256^i.
var crcPowers = func() (p [4][256]uint32) {
	step := uint32(crcOne >> 8)
	for i := range p {
		p[i][0] = crcOne
		for d := 1; d < 256; d++ {
			p[i][d] = crcMultiply(p[i][d-1], step)
		}
		step = crcMultiply(p[i][255], step)
	}
	return p
}()

// crcMultiply multiplies two polynomials modulo that of CRC-32C.
func crcMultiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}
