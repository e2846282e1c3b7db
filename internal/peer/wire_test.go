package peer

import (
	"bytes"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// drawn returns a value or its absence.
func drawn[T any](t *rapid.T, name string, g *rapid.Generator[T]) *T {
	if !rapid.Bool().Draw(t, "with "+name) {
		return nil
	}
	v := g.Draw(t, name)
	return &v
}

func drawBytes(t *rapid.T, name string) []byte {
	switch rapid.IntRange(0, 3).Draw(t, name) {
	case 0:
		return nil
	case 1:
		return []byte{}
	case 2:
		return rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, name)
	default:
		return bytes.Repeat([]byte{'x'}, rapid.IntRange(1, 2*dataApart).Draw(t, name))
	}
}

func drawEntry(t *rapid.T) *raftpb.Entry {
	return &raftpb.Entry{
		Type: drawn(t, "kind", rapid.Map(rapid.Int32Range(0, 2), func(v int32) raftpb.EntryType { return raftpb.EntryType(v) })),
		Term: drawn(t, "term", rapid.Uint64()), Index: drawn(t, "index", rapid.Uint64()), Data: drawBytes(t, "data"),
	}
}

func drawMessage(t *rapid.T) *raftpb.Message {
	m := &raftpb.Message{
		Type: drawn(t, "kind", rapid.Map(rapid.Int32Range(0, 23), func(v int32) raftpb.MessageType { return raftpb.MessageType(v) })),
		To:   drawn(t, "to", rapid.Uint64()), From: drawn(t, "from", rapid.Uint64()), Term: drawn(t, "term", rapid.Uint64()),
		LogTerm: drawn(t, "log term", rapid.Uint64()), Index: drawn(t, "index", rapid.Uint64()), Commit: drawn(t, "commit", rapid.Uint64()),
		Vote: drawn(t, "vote", rapid.Uint64()), Reject: drawn(t, "reject", rapid.Bool()), RejectHint: drawn(t, "hint", rapid.Uint64()),
		Context: drawBytes(t, "context"),
	}
	for range rapid.IntRange(0, 3).Draw(t, "entries") {
		m.Entries = append(m.Entries, drawEntry(t))
	}
	return m
}

var deterministic = proto.MarshalOptions{Deterministic: true}

func TestTheEncodingIsThatOfTheLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e, m := drawEntry(t), drawMessage(t)
		want, err := deterministic.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendEntry(nil, e); !bytes.Equal(got, want) || entryBytes(e) != len(want) {
			t.Errorf("the entry %v: got %x of %d bytes, want %x", e, got, entryBytes(e), want)
		}
		if want, err = deterministic.Marshal(m); err != nil {
			t.Fatal(err)
		}
		if got := appendPlain(nil, m); !isPlain(m) || !bytes.Equal(got, want) {
			t.Errorf("the message %v: got %x, want %x", m, got, want)
		}
	})
}

func TestADecoderIsThatOfTheLibrary(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var mem memory
		for range rapid.IntRange(1, 5).Draw(t, "messages") {
			m := drawMessage(t)
			wire, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			got := mem.plainMessage(wire)
			clear(wire) // nothing may alias it
			if got == nil || !proto.Equal(got, m) {
				t.Fatalf("got %v, want %v", got, m)
			}
		}
	})
}

// TestWhatIsNotPlainIsLeftToTheLibrary: nothing of it is lost.
func TestWhatIsNotPlainIsLeftToTheLibrary(t *testing.T) {
	t.Parallel()
	unknown := &raftpb.Message{Type: raftpb.MsgApp.Enum(), To: proto.Uint64(2)}
	unknown.ProtoReflect().SetUnknown([]byte{15<<3 | varint, 7})
	cases := map[string]*raftpb.Message{
		"a snapshot":                 {Type: raftpb.MsgSnap.Enum(), Snapshot: &raftpb.Snapshot{Data: []byte("x")}},
		"responses":                  {Type: raftpb.MsgStorageAppend.Enum(), Responses: []*raftpb.Message{{To: proto.Uint64(2)}}},
		"a field of a later release": unknown,
	}
	for name, want := range cases {
		if isPlain(want) {
			t.Errorf("%s: it is taken for plain", name)
		}
		wire, err := appendFramed(nil, want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := (&frames{r: bytes.NewReader(wire)}).message()
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// FuzzWire decodes anything as the library does.
func FuzzWire(f *testing.F) {
	for _, m := range []*raftpb.Message{appendMessage(1, 1, 1, 2), {Type: raftpb.MsgAppResp.Enum(), Reject: proto.Bool(true), Context: []byte{1}}} {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Add(appendEntry(nil, &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1 << 40), Data: []byte{}}))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var mem memory
		m := &raftpb.Message{}
		got, gotErr := mem.decodeMessage(wire)
		if err := proto.Unmarshal(wire, m); (err != nil) != (gotErr != nil) || err == nil && !proto.Equal(got, m) {
			t.Errorf("the message: got %v, %v; want %v, %v", got, gotErr, m, err)
		}
		e := &raftpb.Entry{}
		entry, gotErr := mem.decodeEntry(wire)
		if err := proto.Unmarshal(wire, e); (err != nil) != (gotErr != nil) || err == nil && !proto.Equal(entry, e) {
			t.Errorf("the entry: got %v, %v; want %v, %v", entry, gotErr, e, err)
		}
	})
}

// BenchmarkAppends encodes and decodes appends of 100 entries of 300 bytes; a time is that of one of them.
func BenchmarkAppends(b *testing.B) {
	m := appendMessage(3, 3, 7, 100)
	for _, e := range m.GetEntries() {
		e.Data = bytes.Repeat([]byte{'x'}, 300)
	}
	wire, err := (&appEncoder{appState{3, 7}}).append(nil, m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			if buf, err = (&appEncoder{appState{3, 7}}).append(buf[:0], m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		d := &appDecoder{local: 2, remote: 1}
		for b.Loop() {
			d.r, d.appState = bytes.NewReader(wire), appState{3, 7}
			if _, err := d.next(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
