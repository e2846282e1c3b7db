package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// The kinds of records (docs/format/log.md).
const (
	kindBegin = 1 + iota
	kindAppend
	kindMark
	kindInstall
	kindStage
	kindAdopt
	kindSeal
)

// The flags of a body: the fields that it has, in this order.
const (
	hasIdentity = 1 << iota
	hasHardState
	hasMark
	hasBounds
	hasPlace
	hasEntries

	flagsAll = hasEntries<<1 - 1
)

const (
	// logFormat is the version of the segments that is written, and the highest that is read.
	logFormat   = 1
	magic       = "ashlar-log"
	headerBytes = 44
	// fieldsMax is more than all fields of a body take before its entries.
	fieldsMax = 512
	// entryHeadMax is the most that an entry takes before its data.
	entryHeadMax = binary.MaxVarintLen64 + 1 + binary.MaxVarintLen64 + 4
	// identityMax bounds the identity record.
	identityMax = 64
	bodyMax     = 1<<32 - 1
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// errRecord is returned for bytes that are no record: never written, torn, or damaged.
	errRecord = errors.New("the record does not decode")
)

// header is the beginning of a record.
type header struct {
	sum     uint32 // of the rest of it; set by encode and decode
	body    uint32 // checksum of the body, without the data of entries
	length  uint32
	kind    byte
	seq     uint64
	offset  int64
	witness int64
	chain   uint32
}

// encode fills the first headerBytes of b, and sum.
func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[4:], h.body)
	le.PutUint32(b[8:], h.length)
	le.PutUint32(b[12:], uint32(h.kind))
	le.PutUint64(b[16:], h.seq)
	le.PutUint64(b[24:], uint64(h.offset))
	le.PutUint64(b[32:], uint64(h.witness))
	le.PutUint32(b[40:], h.chain)
	h.sum = crc32.Checksum(b[4:headerBytes], castagnoli)
	le.PutUint32(b, h.sum)
}

// decodeHeader reads a header that stands at offset of the segment seq; ok is false for anything else.
func decodeHeader(b []byte, seq uint64, offset int64) (h header, ok bool) {
	le := binary.LittleEndian
	if len(b) < headerBytes || le.Uint64(b[16:]) != seq || le.Uint64(b[24:]) != uint64(offset) {
		return h, false
	}
	h = header{
		sum: le.Uint32(b), body: le.Uint32(b[4:]), length: le.Uint32(b[8:]), kind: b[12], seq: seq, offset: offset,
		witness: int64(le.Uint64(b[32:])), chain: le.Uint32(b[40:]),
	}
	ok = h.sum == crc32.Checksum(b[4:headerBytes], castagnoli) && b[13]|b[14]|b[15] == 0 && h.witness >= 0 && h.witness <= offset
	return h, ok
}

// record is one operation. Nil fields are not there.
type record struct {
	kind     byte
	identity *storage.Identity
	hs       *HardState
	mark     *Mark
	bounds   *bounds         // of kindBegin
	place    uint64          // of kindBegin: where the segment before ends
	first    uint64          // index of the first entry
	count    uint64          // of entries
	entries  []*raftpb.Entry // what is to be written
	newer    error           // of a record that was read: a newer release wrote it, if its checksum is right
}

// bounds are the first and last index of what is in a log, or staged.
type bounds struct{ First, Last uint64 }

// withEntries returns r with entries, which go up one by one.
func (r record) withEntries(entries []*raftpb.Entry) record {
	if r.entries, r.count = entries, uint64(len(entries)); r.count > 0 {
		r.first = entries[0].GetIndex()
	}
	return r
}

func (r *record) flags() (f byte) {
	if r.identity != nil {
		f |= hasIdentity
	}
	if r.hs != nil {
		f |= hasHardState
	}
	if r.mark != nil {
		f |= hasMark
	}
	if r.bounds != nil {
		f |= hasBounds
	}
	if r.kind == kindBegin {
		f |= hasPlace
	}
	if r.count > 0 {
		f |= hasEntries
	}
	return f
}

// appendFields appends everything of a body that stands before its entries.
func (r *record) appendFields(b []byte) []byte {
	b = append(b, r.flags())
	if r.kind == kindBegin {
		b = append(b, magic...)
		b = binary.AppendUvarint(b, logFormat)
	}
	if r.identity != nil {
		id := r.identity.Encode()
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	}
	if r.hs != nil {
		b = appendUvarints(b, r.hs.Term, r.hs.Vote, r.hs.Commit)
	}
	if r.mark != nil {
		b = appendUvarints(b, r.mark.Index, r.mark.Term, r.mark.Generation)
	}
	if r.bounds != nil {
		b = appendUvarints(b, r.bounds.First, r.bounds.Last)
	}
	if r.kind == kindBegin {
		b = appendUvarints(b, r.place)
	}
	if r.count > 0 {
		b = appendUvarints(b, r.first, r.count)
	}
	return b
}

// decodeFields reads what appendFields wrote and returns its length. The error is errRecord.
func decodeFields(kind byte, b []byte) (r record, n int, err error) {
	r.kind = kind
	d := fields{b: b}
	flags := d.byte()
	if kind == kindBegin {
		if string(d.bytes(uint64(len(magic)))) != magic {
			return r, 0, errRecord
		}
		if v := d.uvarint(); d.bad || v == 0 {
			return r, 0, errRecord
		} else if v > logFormat {
			r.newer = fmt.Errorf("%w: format %d of the log, known up to %d", storage.ErrNewerFormat, v, logFormat)
			return r, len(b), nil // what follows may mean anything
		}
	}
	if d.bad || flags > flagsAll || (flags&hasPlace != 0) != (kind == kindBegin) {
		return r, 0, errRecord
	}
	if flags&hasIdentity != 0 {
		size := d.uvarint()
		if size > identityMax {
			return r, 0, errRecord
		}
		id, err := storage.DecodeIdentity(d.bytes(size))
		if errors.Is(err, storage.ErrNewerFormat) {
			r.newer = err
		} else if err != nil {
			return r, 0, errRecord
		}
		r.identity = &id
	}
	if flags&hasHardState != 0 {
		r.hs = &HardState{d.uvarint(), d.uvarint(), d.uvarint()}
	}
	if flags&hasMark != 0 {
		r.mark = &Mark{d.uvarint(), d.uvarint(), d.uvarint()}
	}
	if flags&hasBounds != 0 {
		r.bounds = &bounds{d.uvarint(), d.uvarint()}
	}
	if flags&hasPlace != 0 {
		r.place = d.uvarint()
	}
	if flags&hasEntries != 0 {
		r.first, r.count = d.uvarint(), d.uvarint()
		if r.count == 0 || r.first == 0 || r.first+r.count < r.first {
			return r, 0, errRecord
		}
	}
	if d.bad {
		return r, 0, errRecord
	}
	return r, len(b) - len(d.b), nil
}

// fields takes fields off b, one after another. bad is set once there is none.
type fields struct {
	b   []byte
	bad bool
}

func (d *fields) uvarint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *fields) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *fields) bytes(n uint64) []byte {
	if uint64(len(d.b)) < n {
		d.bad, d.b = true, nil
		return nil
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func appendUvarints(b []byte, xs ...uint64) []byte {
	for _, x := range xs {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

// HardState is what raft must not forget besides its entries. Commit is a hint: a restart may find an older one.
type HardState struct{ Term, Vote, Commit uint64 }

// Mark is the newest entry that is not in the log any more, and the generation of the state that belongs to the log.
type Mark struct{ Index, Term, Generation uint64 }
