package peer

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Messages and entries are encoded and decoded here as protobuf does it, byte for byte: they are all that members send each other for a
// request, each entry several times, and the library goes by descriptions of the fields and takes memory for each field of its own.
// Whatever is not plain (a snapshot, a field that is not known, anything malformed) is left to the library.

// The tags of fields: their number and how they are encoded.
const (
	tagEntryType  = 1<<3 | varint
	tagEntryTerm  = 2<<3 | varint
	tagEntryIndex = 3<<3 | varint
	tagEntryData  = 4<<3 | lengthed

	tagType       = 1<<3 | varint
	tagTo         = 2<<3 | varint
	tagFrom       = 3<<3 | varint
	tagTerm       = 4<<3 | varint
	tagLogTerm    = 5<<3 | varint
	tagIndex      = 6<<3 | varint
	tagEntries    = 7<<3 | lengthed
	tagCommit     = 8<<3 | varint
	tagReject     = 10<<3 | varint
	tagRejectHint = 11<<3 | varint
	tagContext    = 12<<3 | lengthed
	tagVote       = 13<<3 | varint

	varint   = 0
	lengthed = 2
)

const (
	// boxesAtOnce and dataAtOnce are for how many entries, and for how many bytes of their data, a decoder takes memory at a time.
	// Entries that arrive together are held together, and go together.
	boxesAtOnce = 32
	dataAtOnce  = 16 << 10
	// dataApart is from where on data, and an entry with as much, has memory of its own.
	dataApart = 2 << 10
)

// entryBox is an entry and what its fields point to.
type entryBox struct {
	entry       raftpb.Entry
	term, index uint64
	kind        raftpb.EntryType
}

// messageBox is a message and what its fields point to.
type messageBox struct {
	message                                                  raftpb.Message
	to, from, term, logTerm, index, commit, rejectHint, vote uint64
	kind                                                     raftpb.MessageType
	reject                                                   bool
}

// memory is where decoded entries lie.
type memory struct {
	boxes []entryBox
	data  []byte
}

func (m *memory) box() *entryBox {
	if len(m.boxes) == 0 {
		m.boxes = make([]entryBox, boxesAtOnce)
	}
	x := &m.boxes[0]
	m.boxes = m.boxes[1:]
	return x
}

// copy returns a copy of b, which is not nil.
func (m *memory) copy(b []byte) []byte {
	if len(b) == 0 || len(b) >= dataApart {
		return append(make([]byte, 0, len(b)), b...)
	}
	if len(m.data) < len(b) {
		m.data = make([]byte, dataAtOnce)
	}
	out := m.data[:len(b):len(b)]
	m.data = m.data[len(b):]
	copy(out, b)
	return out
}

// decodeEntry decodes an entry, which does not alias b.
func (m *memory) decodeEntry(b []byte) (*raftpb.Entry, error) {
	if e := m.plainEntry(b); e != nil {
		return e, nil
	}
	e := &raftpb.Entry{}
	if err := proto.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return e, nil
}

// plainEntry returns nil where the library has the word.
func (m *memory) plainEntry(b []byte) *raftpb.Entry {
	var x *entryBox
	if len(b) < dataApart {
		x = m.box()
	} else {
		x = new(entryBox) // others that live longer must not hold its data
	}
	e := &x.entry
	for len(b) > 0 {
		tag := b[0]
		v, n := binary.Uvarint(b[1:])
		if n <= 0 {
			return nil
		}
		b = b[1+n:]
		switch tag {
		case tagEntryType:
			if v > uint64(raftpb.EntryConfChangeV2) {
				return nil
			}
			x.kind = raftpb.EntryType(v)
			e.Type = &x.kind
		case tagEntryTerm:
			x.term = v
			e.Term = &x.term
		case tagEntryIndex:
			x.index = v
			e.Index = &x.index
		case tagEntryData:
			if v > uint64(len(b)) {
				return nil
			}
			e.Data = m.copy(b[:v])
			b = b[v:]
		default:
			return nil
		}
	}
	return e
}

// decodeMessage decodes a message, which does not alias b.
func (m *memory) decodeMessage(b []byte) (*raftpb.Message, error) {
	if x := m.plainMessage(b); x != nil {
		return x, nil
	}
	x := &raftpb.Message{}
	if err := proto.Unmarshal(b, x); err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	return x, nil
}

// plainMessage returns nil where the library has the word.
func (m *memory) plainMessage(b []byte) *raftpb.Message {
	x := &messageBox{}
	for len(b) > 0 {
		tag := b[0]
		v, n := binary.Uvarint(b[1:])
		if n <= 0 {
			return nil
		}
		b = b[1+n:]
		if tag&7 == varint {
			if !x.set(tag, v) {
				return nil
			}
			continue
		}
		if v > uint64(len(b)) {
			return nil
		}
		switch field := b[:v]; tag {
		case tagEntries:
			e := m.plainEntry(field)
			if e == nil {
				return nil
			}
			x.message.Entries = append(x.message.Entries, e)
		case tagContext:
			x.message.Context = append(make([]byte, 0, v), field...)
		default:
			return nil
		}
		b = b[v:]
	}
	return &x.message
}

// set sets a field that is a number; false says that it is not known.
func (x *messageBox) set(tag byte, v uint64) bool {
	m := &x.message
	switch tag {
	case tagType:
		if v > uint64(raftpb.MsgForgetLeader) {
			return false
		}
		x.kind = raftpb.MessageType(v)
		m.Type = &x.kind
	case tagTo:
		x.to, m.To = v, &x.to
	case tagFrom:
		x.from, m.From = v, &x.from
	case tagTerm:
		x.term, m.Term = v, &x.term
	case tagLogTerm:
		x.logTerm, m.LogTerm = v, &x.logTerm
	case tagIndex:
		x.index, m.Index = v, &x.index
	case tagCommit:
		x.commit, m.Commit = v, &x.commit
	case tagReject:
		x.reject = v != 0
		m.Reject = &x.reject
	case tagRejectHint:
		x.rejectHint, m.RejectHint = v, &x.rejectHint
	case tagVote:
		x.vote, m.Vote = v, &x.vote
	default:
		return false
	}
	return true
}

func varintBytes(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// entryBytes is the size of an entry as appendEntry encodes it.
func entryBytes(e *raftpb.Entry) (n int) {
	if e.Type != nil {
		n += 1 + varintBytes(uint64(*e.Type))
	}
	if e.Term != nil {
		n += 1 + varintBytes(*e.Term)
	}
	if e.Index != nil {
		n += 1 + varintBytes(*e.Index)
	}
	if e.Data != nil {
		n += 1 + varintBytes(uint64(len(e.Data))) + len(e.Data)
	}
	return n
}

// appendEntry encodes an entry. Fields that this release does not know are left out: the log does not keep them either.
func appendEntry(dst []byte, e *raftpb.Entry) []byte {
	if e.Type != nil {
		dst = appendNumber(dst, tagEntryType, uint64(*e.Type))
	}
	if e.Term != nil {
		dst = appendNumber(dst, tagEntryTerm, *e.Term)
	}
	if e.Index != nil {
		dst = appendNumber(dst, tagEntryIndex, *e.Index)
	}
	if e.Data != nil {
		dst = append(appendNumber(dst, tagEntryData, uint64(len(e.Data))), e.Data...)
	}
	return dst
}

func appendNumber(dst []byte, tag byte, v uint64) []byte {
	return binary.AppendUvarint(append(dst, tag), v)
}

// isPlain says whether appendPlain can encode a message.
func isPlain(m *raftpb.Message) bool {
	return m.Snapshot == nil && len(m.Responses) == 0 && len(m.ProtoReflect().GetUnknown()) == 0
}

// appendPlain encodes a message. REQUIRES: it is plain.
func appendPlain(dst []byte, m *raftpb.Message) []byte {
	number := func(tag byte, v *uint64) {
		if v != nil {
			dst = appendNumber(dst, tag, *v)
		}
	}
	if m.Type != nil {
		dst = appendNumber(dst, tagType, uint64(*m.Type))
	}
	number(tagTo, m.To)
	number(tagFrom, m.From)
	number(tagTerm, m.Term)
	number(tagLogTerm, m.LogTerm)
	number(tagIndex, m.Index)
	for _, e := range m.Entries {
		dst = appendEntry(appendNumber(dst, tagEntries, uint64(entryBytes(e))), e)
	}
	number(tagCommit, m.Commit)
	if m.Reject != nil {
		v := uint64(0)
		if *m.Reject {
			v = 1
		}
		dst = appendNumber(dst, tagReject, v)
	}
	number(tagRejectHint, m.RejectHint)
	if m.Context != nil {
		dst = append(appendNumber(dst, tagContext, uint64(len(m.Context))), m.Context...)
	}
	number(tagVote, m.Vote)
	return dst
}
