package peer

import (
	"encoding/binary"
	"fmt"
	"io"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The first byte of what follows in the encoding "msgapp v2".
const (
	appHeartbeat byte = iota // nothing follows
	appEntries               // entries that follow those before, and the commit index
	appMessage               // a whole message
)

// entriesMax bounds the entries of one append; the sender's own bound is in bytes.
const entriesMax = 1 << 20

// appState is what both ends of a msgapp stream know of the last append: the next one that goes on from it needs no header.
type appState struct{ term, index uint64 }

// follows says whether m is an append that the receiver can rebuild from its entries and commit index.
func (s *appState) follows(m *raftpb.Message) bool {
	return m.GetIndex() == s.index && m.GetLogTerm() == s.term && m.GetTerm() == s.term
}

// reset takes the state from a whole message.
func (s *appState) reset(m *raftpb.Message) {
	s.term, s.index = m.GetTerm(), m.GetIndex()
	if n := len(m.GetEntries()); n > 0 {
		s.index = m.GetEntries()[n-1].GetIndex()
	}
}

// appEncoder writes the encoding "msgapp v2".
type appEncoder struct{ appState }

func (e *appEncoder) appendHeartbeat(dst []byte) []byte { return append(dst, appHeartbeat) }

func (e *appEncoder) append(dst []byte, m *raftpb.Message) (_ []byte, err error) {
	if isLinkHeartbeat(m) {
		return e.appendHeartbeat(dst), nil
	}
	if !e.follows(m) {
		if dst, err = appendFramed(append(dst, appMessage), m); err == nil {
			e.reset(m)
		}
		return dst, err
	}
	dst = binary.BigEndian.AppendUint64(append(dst, appEntries), uint64(len(m.GetEntries())))
	for _, x := range m.GetEntries() {
		dst = appendEntry(binary.BigEndian.AppendUint64(dst, uint64(entryBytes(x))), x)
		e.index++
	}
	return binary.BigEndian.AppendUint64(dst, m.GetCommit()), nil
}

// appDecoder reads the encoding "msgapp v2".
type appDecoder struct {
	frames
	appState
	local, remote uint64
}

func (d *appDecoder) next() (*raftpb.Message, error) {
	var kind [1]byte
	if _, err := io.ReadFull(d.r, kind[:]); err != nil {
		return nil, err
	}
	switch kind[0] {
	case appHeartbeat:
		return nil, nil
	case appEntries:
		m, err := d.entries()
		return m, noEOF(err)
	case appMessage:
		m, err := d.message()
		if err != nil {
			return nil, noEOF(err)
		}
		d.reset(m)
		return m, nil
	default:
		return nil, fmt.Errorf("%w: type %d of an append", errMalformed, kind[0])
	}
}

// entries rebuilds the message around entries that follow those before.
func (d *appDecoder) entries() (*raftpb.Message, error) {
	n, err := d.number()
	if err != nil {
		return nil, err
	}
	if n > entriesMax {
		return nil, fmt.Errorf("%w: %d entries, the bound is %d", errMalformed, n, entriesMax)
	}
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(d.remote), To: proto.Uint64(d.local),
		Term: proto.Uint64(d.term), LogTerm: proto.Uint64(d.term), Index: proto.Uint64(d.index),
	}
	m.Entries = make([]*raftpb.Entry, 0, min(n, boxesAtOnce))
	size := 0
	for range n {
		e, err := d.entry()
		if err != nil {
			return nil, err
		}
		if size += len(e.GetData()); size > messageBytesMax {
			return nil, fmt.Errorf("%w: an append of more than %d bytes", errMalformed, messageBytesMax)
		}
		m.Entries = append(m.Entries, e)
		d.index++
	}
	commit, err := d.number()
	if err != nil {
		return nil, err
	}
	m.Commit = proto.Uint64(commit)
	return m, nil
}
