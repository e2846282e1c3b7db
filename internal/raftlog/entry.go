package raftlog

import (
	"encoding/binary"
	"hash/crc32"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
)

// entryHead is what stands before the data of an entry in a record.
type entryHead struct {
	term uint64
	kind byte
	size uint64 // of the data
	sum  uint32
}

// appendEntryHead appends the head of e, with the checksum.
func appendEntryHead(b []byte, e *raftpb.Entry) []byte {
	start := len(b)
	b = binary.AppendUvarint(b, e.GetTerm())
	b = append(b, byte(e.GetType()))
	b = binary.AppendUvarint(b, uint64(len(e.GetData())))
	sum := crc32.Update(entrySeed(e.GetIndex(), b[start:]), castagnoli, e.GetData())
	return binary.LittleEndian.AppendUint32(b, sum)
}

// entrySeed is the checksum of an entry without its data. It begins with the index, so that an entry is not taken for another one.
func entrySeed(index uint64, head []byte) uint32 {
	return crc32.Update(uint32(index), castagnoli, head)
}

// decodeEntryHead reads what appendEntryHead wrote and returns its length, 0 if there is none, and the checksum that the data
// goes on from.
func decodeEntryHead(b []byte, index uint64) (h entryHead, seed uint32, n int) {
	term, n := binary.Uvarint(b)
	if n <= 0 || n >= len(b) || b[n] > byte(raftpb.EntryConfChangeV2) {
		return h, 0, 0
	}
	h.term, h.kind = term, b[n]
	n++
	size, k := binary.Uvarint(b[n:])
	if k <= 0 || n+k+4 > len(b) {
		return h, 0, 0
	}
	n += k
	h.size, h.sum = size, binary.LittleEndian.Uint32(b[n:])
	return h, entrySeed(index, b[:n]), n + 4
}

// entry makes the entry; it keeps data.
func (h entryHead) entry(index uint64, data []byte) *raftpb.Entry {
	// One allocation for the entry and what its fields point to.
	box := &struct {
		entry       raftpb.Entry
		index, term uint64
		kind        raftpb.EntryType
	}{index: index, term: h.term, kind: raftpb.EntryType(h.kind)}
	e := &box.entry
	e.Index, e.Term, e.Type = &box.index, &box.term, &box.kind
	e.Data = data
	return e
}

func uvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

// storedBytes is what e takes in a record.
func storedBytes(e *raftpb.Entry) int64 {
	n := len(e.GetData())
	return int64(uvarintLen(e.GetTerm()) + 1 + uvarintLen(uint64(n)) + 4 + n)
}

// encodedBytes is the size of e as raft counts it: that of its protobuf encoding.
func encodedBytes(e *raftpb.Entry) uint64 {
	n := 3 + uvarintLen(uint64(e.GetType())) + uvarintLen(e.GetTerm()) + uvarintLen(e.GetIndex())
	if d := len(e.GetData()); d > 0 {
		n += 1 + uvarintLen(uint64(d)) + d
	}
	return uint64(n)
}
