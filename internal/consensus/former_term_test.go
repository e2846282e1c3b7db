package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestAnAnswerToAFormerTermStartsNothingAnew: a member that leads again may get one to what it has sent when it led before. It is only of use to one that
// does not know of the term yet.
func TestAnAnswerToAFormerTermStartsNothingAnew(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.from(3, raftpb.MsgAppResp, 0)
	f.run()
	for _, m := range f.sent {
		if m.GetTo() == 3 && m.GetType() == raftpb.MsgApp && m.GetIndex() == 0 {
			t.Errorf("member 3 is sent the log from its first entry on: %v", m)
		}
	}
	f.Step(&raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(3), To: proto.Uint64(1), Term: proto.Uint64(f.Term() + 1), Index: proto.Uint64(0),
	})
	if f.run(); f.IsLeader() {
		t.Error("it leads on although another one knows of a newer term")
	}
}
