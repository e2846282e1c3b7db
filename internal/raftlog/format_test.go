package raftlog

import (
	"bytes"
	"hash/crc32"
	"math"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func bodySum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func FuzzDecodeHeader(f *testing.F) {
	var b [headerBytes]byte
	h := header{body: 1, length: 2, kind: kindSeal, seq: 7, offset: 100, witness: 99, chain: 5}
	h.encode(b[:])
	f.Add(b[:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := decodeHeader(b, 7, 100)
		if !ok {
			return
		}
		var again [headerBytes]byte
		if h.encode(again[:]); !bytes.Equal(again[:], b[:headerBytes]) {
			t.Fatalf("%x decodes as %+v and encodes as %x", b, h, again)
		}
	})
}

func FuzzDecodeFields(f *testing.F) {
	s := state{initialised: true, identity: testIdentity, hs: HardState{1, 2, 3}, mark: Mark{4, 5, 6}, last: 9}
	begin := s.begin(77)
	var none state
	fresh := none.begin(0)
	full := record{kind: kindInstall, identity: &s.identity, hs: &s.hs, mark: &s.mark}.withEntries(run(5, 7, 1))
	for _, r := range []record{begin, fresh, full, {kind: kindSeal}, {kind: kindMark, mark: &Mark{1 << 60, 2, 3}}} {
		f.Add(r.kind, r.appendFields(nil))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		r, n, err := decodeFields(kind, b)
		if err != nil || r.newer != nil {
			return
		}
		again := r.appendFields(nil)
		back, m, err := decodeFields(kind, again)
		if err != nil || m != len(again) || n > len(b) || !bytes.Equal(back.appendFields(nil), again) || len(again) > fieldsMax {
			t.Fatalf("%x decodes as %+v, encodes as %x, decodes as %+v, %v", b, r, again, back, err)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range append(run(1, 4, 300), &raftpb.Entry{}, &raftpb.Entry{Type: raftpb.EntryConfChange.Enum()}) {
		f.Add(e.GetIndex(), append(appendEntryHead(nil, e), e.GetData()...))
	}
	f.Add(uint64(1), []byte{})
	f.Add(uint64(1), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		e, err := readEntry(t, index, b)
		if err != nil {
			return
		}
		again := append(appendEntryHead(nil, e), e.GetData()...)
		back, err := readEntry(t, index, again)
		if err != nil || !proto.Equal(e, back) || e.GetIndex() != index || int64(len(again)) != storedBytes(e) {
			t.Fatalf("%x decodes as %v, encodes as %x, decodes as %v, %v", b, e, again, back, err)
		}
		if got, want := encodedBytes(e), proto.Size(e); got != uint64(want) {
			t.Fatalf("%v is said to take %d bytes and takes %d", e, got, want)
		}
		if _, err := readEntry(t, index+1, again); err == nil && index < math.MaxUint32 {
			t.Fatalf("%x is taken for entry %d as well as for %d", again, index, index+1)
		}
	})
}

func readEntry(t *testing.T, index uint64, b []byte) (*raftpb.Entry, error) {
	s := newSegment(1, "memory", vfs.NewMemFile(b))
	defer func() { must(t, s.release()) }()
	return newReader(s, 0, int64(len(b)), 0).entry(index, int64(len(b)))
}

// FuzzReplay: whatever stands in a file, reading it ends without a panic, and what it is taken for can be read.
func FuzzReplay(f *testing.F) {
	fs := vfs.NewMem()
	l := bootstrapped(f, fs, 9, Options{})
	must(f, l.Append(&HardState{2, 1, 5}, run(8, 12, 2), true))
	must(f, l.Cut(4))
	must(f, l.Close())
	f.Add(content(f, fs, segmentPath(1)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newSegment(1, "memory", vfs.NewMemFile(b))
		var r replay
		if _, err := r.segment(s, -1); err == nil && r.done("memory", s) == nil && r.state.last-r.state.mark.Index < 1000 && r.state.initialised {
			l := &Log{state: r.state, index: r.index, failure: failure{call: func(error) {}}}
			must(t, l.Verify())
		}
	})
}
