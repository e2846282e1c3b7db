package consensus

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestALeaderKnowsWhatOthersHave(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	expect := func(what string, id, want uint64) {
		t.Helper()
		if got, ok := f.Match(id); got != want || ok != (want > 0) {
			t.Errorf("%s: member %d has entry %d, %v, want %d", what, id, got, ok, want)
		}
	}
	f.wait(1)
	expect("before there is a leader", 2, 0)
	f.elect()
	f.wait(1)
	f.run()
	last := f.cfg.Log.LastIndex()
	expect("one has answered", 2, last)
	expect("the other one has said nothing", 3, 0)
	f.from(3, raftpb.MsgAppResp, last-1)
	expect("between two ticks", 3, 0)
	f.wait(1)
	expect("it has, too", 3, last-1)
	f.from(3, raftpb.MsgAppResp, last)
	f.wait(1)
	expect("it has all", 3, last)
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(3), To: proto.Uint64(1), Term: proto.Uint64(f.Term() + 1)})
	f.Turn()
	f.wait(1)
	expect("another one leads", 3, 0)
}

// TestALeaderReadsALittleAheadOfWhatAFollowerHas: however far behind that is, and whatever bytes the log has for it.
func TestALeaderReadsALittleAheadOfWhatAFollowerHas(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.wait(1)
	f.run()
	behind := f.cfg.Log.LastIndex()
	value := strings.Repeat("x", sizePerMsgMax)
	for range 2 * inflightBytesMax / sizePerMsgMax {
		f.propose(value)
		f.run()
		f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
		f.run()
	}
	f.sent = nil
	f.from(3, raftpb.MsgAppResp, behind)
	f.run()
	bytes, last := 0, uint64(0)
	for _, m := range f.sent {
		if m.GetTo() != 3 {
			continue
		}
		for _, e := range m.GetEntries() {
			bytes, last = bytes+len(e.GetData()), e.GetIndex()
		}
	}
	if bytes < inflightBytesMax || bytes > inflightBytesMax+sizePerMsgMax {
		t.Errorf("%d bytes are under way to it, want %d", bytes, inflightBytesMax)
	}
	f.sent = nil
	f.from(3, raftpb.MsgAppResp, last)
	f.run()
	if got := f.sent; len(got) == 0 || got[0].GetIndex() != last {
		t.Errorf("once it has them, %d messages follow", len(got))
	}
}
