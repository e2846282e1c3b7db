package etcdfile

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// tally is a set of versions, by their number and the sum of their hashes: it does not matter in which order they come.
type tally struct {
	seed maphash.Seed
	n    int
	sum  uint64
	buf  []byte
}

func newTally() *tally { return &tally{seed: maphash.MakeSeed()} }

// empty returns a tally that can be compared with t.
func (t *tally) empty() *tally { return &tally{seed: t.seed} }

func (t *tally) add(key []byte, rev mvcc.Revision, tombstone bool) {
	t.buf = binary.BigEndian.AppendUint64(t.buf[:0], uint64(rev.Main))
	t.buf = binary.BigEndian.AppendUint32(t.buf, rev.Sub)
	t.buf = append(append(t.buf, boolByte(tombstone)), key...)
	t.n++
	t.sum += maphash.Bytes(t.seed, t.buf)
}

func (t *tally) same(o *tally) bool { return t.n == o.n && t.sum == o.sum }
