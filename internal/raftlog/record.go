package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// The keys of the log (docs/format/log.md).
const (
	kindIdentity  = 0x01
	kindHardState = 0x02
	kindMark      = 0x03
	kindLast      = 0x04
	kindEntry     = 0x10

	entryKeyBytes = 1 + 8
)

var (
	keyIdentity  = []byte{kindIdentity}
	keyHardState = []byte{kindHardState}
	keyMark      = []byte{kindMark}
	keyLast      = []byte{kindLast}
	// entriesEnd sorts after every entry.
	entriesEnd = []byte{kindEntry + 1}
)

var errRecord = errors.New("the record does not decode")

func entryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kindEntry}, index)
}

// decodeEntryKey returns the index in the key of an entry.
func decodeEntryKey(key []byte) (index uint64, ok bool) {
	if len(key) != entryKeyBytes || key[0] != kindEntry {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

func uvarintLen(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

// entryValueLen is the number of bytes that putEntry writes.
func entryValueLen(e *raftpb.Entry) int {
	return uvarintLen(e.GetTerm()) + 1 + len(e.GetData())
}

// putEntry encodes e into b, which has entryValueLen bytes: term, type, data.
func putEntry(b []byte, e *raftpb.Entry) {
	n := binary.PutUvarint(b, e.GetTerm())
	b[n] = byte(e.GetType())
	copy(b[n+1:], e.GetData())
}

// decodeEntry reads what putEntry wrote. The entry does not alias b.
func decodeEntry(index uint64, b []byte) (*raftpb.Entry, error) {
	term, n := binary.Uvarint(b)
	if n <= 0 || n >= len(b) || b[n] > byte(raftpb.EntryConfChangeV2) {
		return nil, errRecord
	}
	// One allocation for the entry and what its fields point to.
	box := &struct {
		entry       raftpb.Entry
		index, term uint64
		kind        raftpb.EntryType
	}{index: index, term: term, kind: raftpb.EntryType(b[n])}
	e := &box.entry
	e.Index, e.Term, e.Type = &box.index, &box.term, &box.kind
	if data := b[n+1:]; len(data) > 0 {
		e.Data = append(make([]byte, 0, len(data)), data...)
	}
	return e, nil
}

// encodedBytes is the size of e as raft counts it: that of its protobuf encoding.
func encodedBytes(e *raftpb.Entry) uint64 {
	n := 3 + uvarintLen(uint64(e.GetType())) + uvarintLen(e.GetTerm()) + uvarintLen(e.GetIndex())
	if d := len(e.GetData()); d > 0 {
		n += 1 + uvarintLen(uint64(d)) + d
	}
	return uint64(n)
}

func appendUvarints(b []byte, xs ...uint64) []byte {
	for _, x := range xs {
		b = binary.AppendUvarint(b, x)
	}
	return b
}

// decodeUvarints fills the fields from b, which must hold exactly those.
func decodeUvarints(b []byte, fields ...*uint64) error {
	for _, f := range fields {
		x, n := binary.Uvarint(b)
		if n <= 0 {
			return errRecord
		}
		*f, b = x, b[n:]
	}
	if len(b) != 0 {
		return errRecord
	}
	return nil
}

// HardState is what raft must not forget besides its entries. Commit is a hint: a restart may find an older one.
type HardState struct{ Term, Vote, Commit uint64 }

func (hs HardState) encode() []byte { return appendUvarints(nil, hs.Term, hs.Vote, hs.Commit) }

func decodeHardState(b []byte) (hs HardState, err error) {
	return hs, decodeUvarints(b, &hs.Term, &hs.Vote, &hs.Commit)
}

// Mark is the newest entry that is not in the log any more, and the generation of the state that belongs to the log.
type Mark struct{ Index, Term, Generation uint64 }

func (m Mark) encode() []byte { return appendUvarints(nil, m.Index, m.Term, m.Generation) }

func decodeMark(b []byte) (m Mark, err error) {
	return m, decodeUvarints(b, &m.Index, &m.Term, &m.Generation)
}

// setEntries adds the records of entries to a batch.
func setEntries(b *storage.Batch, entries []*raftpb.Entry) error {
	for _, e := range entries {
		op := b.SetDeferred(entryKeyBytes, entryValueLen(e))
		op.Key[0] = kindEntry
		binary.BigEndian.PutUint64(op.Key[1:], e.GetIndex())
		putEntry(op.Value, e)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("add entry %d to a batch: %w", e.GetIndex(), err)
		}
	}
	return nil
}
