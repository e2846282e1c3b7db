package raftlog

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range append(run(1, 4, 300), &raftpb.Entry{}, &raftpb.Entry{Type: raftpb.EntryConfChange.Enum()}) {
		b := make([]byte, entryValueLen(e))
		putEntry(b, e)
		f.Add(e.GetIndex(), b)
	}
	f.Add(uint64(1), []byte{})
	f.Add(uint64(1), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, index uint64, b []byte) {
		e, err := decodeEntry(index, b)
		if err != nil {
			return
		}
		again := make([]byte, entryValueLen(e))
		putEntry(again, e)
		back, err := decodeEntry(index, again)
		if err != nil || !proto.Equal(e, back) || e.GetIndex() != index {
			t.Fatalf("%x decodes as %v, encodes as %x, decodes as %v, %v", b, e, again, back, err)
		}
		if got, want := encodedBytes(e), proto.Size(e); got != uint64(want) {
			t.Fatalf("%v is said to take %d bytes and takes %d", e, got, want)
		}
		copy(b, bytes.Repeat([]byte{0xaa}, len(b)))
		if !proto.Equal(e, back) {
			t.Fatal("the entry aliases what it was decoded from")
		}
	})
}

func FuzzDecodeSmallRecords(f *testing.F) {
	f.Add(HardState{1, 2, 3}.encode())
	f.Add(Mark{1 << 60, 2, 3}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if hs, err := decodeHardState(b); err == nil {
			if back, err := decodeHardState(hs.encode()); err != nil || back != hs {
				t.Fatalf("%x: %+v, %+v, %v", b, hs, back, err)
			}
		}
		if m, err := decodeMark(b); err == nil {
			if back, err := decodeMark(m.encode()); err != nil || back != m {
				t.Fatalf("%x: %+v, %+v, %v", b, m, back, err)
			}
		}
		if index, ok := decodeEntryKey(b); ok && !bytes.Equal(entryKey(index), b) {
			t.Fatalf("%x decodes as %d", b, index)
		}
	})
}
