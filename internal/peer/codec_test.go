package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func TestAppendsArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		enc, dec := &appEncoder{}, &appDecoder{local: 2, remote: 1}
		var sent []*raftpb.Message
		var wire []byte
		term, index := uint64(1), uint64(0)
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			if rapid.IntRange(0, 4).Draw(t, "another term") == 0 {
				term++
			}
			if rapid.IntRange(0, 4).Draw(t, "a jump") == 0 {
				index = uint64(rapid.IntRange(0, 50).Draw(t, "index"))
			}
			m := appendMessage(term, term-uint64(rapid.IntRange(0, 1).Draw(t, "older")), index, rapid.IntRange(0, 3).Draw(t, "entries"))
			index += uint64(len(m.GetEntries()))
			sent = append(sent, m)
			wire, _ = enc.append(wire, m)
			wire = enc.appendHeartbeat(wire)
		}
		dec.r = bytes.NewReader(wire)
		for i, want := range sent {
			got, err := dec.next()
			if err != nil || !proto.Equal(got, want) {
				t.Fatalf("message %d: got %v, %v; want %v", i, got, err, want)
			}
			if beat, err := dec.next(); beat != nil || err != nil {
				t.Fatalf("after message %d: got %v, %v; want a heartbeat", i, beat, err)
			}
		}
		if _, err := dec.next(); !errors.Is(err, io.EOF) {
			t.Fatalf("at the end: %v", err)
		}
	})
}

func appendMessage(term, logTerm, index uint64, entries int) *raftpb.Message {
	m := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(term),
		LogTerm: proto.Uint64(logTerm), Index: proto.Uint64(index), Commit: proto.Uint64(index / 2),
	}
	for i := range entries {
		m.Entries = append(m.Entries, &raftpb.Entry{
			Term: proto.Uint64(term), Index: proto.Uint64(index + uint64(i) + 1), Data: bytes.Repeat([]byte{byte(i)}, i*100),
		})
	}
	return m
}

func TestAnAppendThatFollowsHasNoHeader(t *testing.T) {
	t.Parallel()
	enc := &appEncoder{}
	first, _ := enc.append(nil, appendMessage(3, 3, 7, 2))
	second, _ := enc.append(nil, appendMessage(3, 3, 9, 1))
	entry, _ := proto.Marshal(appendMessage(3, 3, 9, 1).GetEntries()[0])
	want := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, byte(len(entry))}, entry...)
	want = append(want, 0, 0, 0, 0, 0, 0, 0, 4) // the commit index
	if first[0] != 2 || !bytes.Equal(second, want) {
		t.Errorf("got %x and %x, want 02… and %x", first, second, want)
	}
}

func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	t.Parallel()
	c := &messageCodec{}
	want := &raftpb.Message{Type: raftpb.MsgVote.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(9)}
	wire, err := c.append(c.appendHeartbeat(nil), want)
	if err != nil {
		t.Fatal(err)
	}
	c.r = bytes.NewReader(wire)
	if beat, err := c.next(); beat != nil || err != nil {
		t.Fatalf("got %v, %v; want a heartbeat", beat, err)
	}
	if got, err := c.next(); err != nil || !proto.Equal(got, want) {
		t.Fatalf("got %v, %v", got, err)
	}
}

func TestALengthAboveTheBoundIsRefusedBeforeMemoryIsTaken(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		wire []byte
		dec  func(io.Reader) decoder
	}{
		"a message":         {[]byte{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, newMessageDecoder},
		"a whole append":    {[]byte{2, 0, 0, 1, 0, 0, 0, 0, 0}, newAppDecoder},
		"entries":           {[]byte{1, 0, 0, 0, 1, 0, 0, 0, 0}, newAppDecoder},
		"an unknown append": {[]byte{3}, newAppDecoder},
	}
	for name, c := range cases {
		if _, err := c.dec(bytes.NewReader(c.wire)).next(); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newMessageDecoder(r io.Reader) decoder { return &messageCodec{frames{r: r}} }

func newAppDecoder(r io.Reader) decoder {
	return &appDecoder{frames: frames{r: r}, local: 2, remote: 1}
}

func fuzzDecoder(f *testing.F, dec func(io.Reader) decoder) {
	f.Fuzz(func(t *testing.T, wire []byte) {
		d := dec(bytes.NewReader(wire))
		for {
			if _, err := d.next(); err != nil {
				return
			}
		}
	})
}

func FuzzMessages(f *testing.F) {
	c := &messageCodec{}
	wire, _ := c.append(nil, appendMessage(1, 1, 1, 2))
	f.Add(c.appendHeartbeat(wire))
	fuzzDecoder(f, newMessageDecoder)
}

func FuzzAppends(f *testing.F) {
	enc := &appEncoder{}
	wire, _ := enc.append(nil, appendMessage(1, 1, 1, 2))
	wire, _ = enc.append(wire, appendMessage(1, 1, 3, 1))
	f.Add(enc.appendHeartbeat(wire))
	fuzzDecoder(f, newAppDecoder)
}

func FuzzLeases(f *testing.F) {
	f.Add(encodeLeaseStatus(LeaseStatus{ID: 7, Granted: 10, Remaining: 3, Keys: [][]byte{[]byte("a"), {}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeLeaseRequest(b)
		_, _ = inner(b)
		s, err := decodeLeaseStatus(b)
		if err != nil {
			return
		}
		again, err := decodeLeaseStatus(encodeLeaseStatus(s))
		if err != nil || again.ID != s.ID || again.Remaining != s.Remaining || len(again.Keys) != len(s.Keys) {
			t.Errorf("got %v, %v; want %v", again, err, s)
		}
	})
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`[{"id":1,"peerURLs":["http://a:1"],"name":"a","clientURLs":[]}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeMembers(b)
		if err != nil {
			return
		}
		if _, err := encodeMembers(all); err != nil {
			t.Error(err)
		}
	})
}
