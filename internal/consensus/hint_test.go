package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// stored is the commit index that the log holds.
func (f *fixture) stored() uint64 { return f.cfg.Log.HardState().Commit }

// tellCommit tells the node, a follower of member 2 at term 2, of a commit index.
func (f *fixture) tellCommit(index uint64) { f.tellCommitAt(f.cfg.Log.LastIndex(), index) }

// tellCommitAt is tellCommit where entries up to last were sent.
func (f *fixture) tellCommitAt(last, index uint64) {
	f.Step(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2),
		Index: proto.Uint64(last), LogTerm: proto.Uint64(2), Commit: proto.Uint64(index),
	})
}

// acks returns the index of the last append that the leader was told of, and forgets all.
func (f *fixture) acks() (index uint64) {
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgAppResp {
			index = m.GetIndex()
		}
	}
	f.sent = nil
	return index
}

// TestACommitIndexAloneIsWrittenLater: with the next entries, or at the next tick, or at the end. It is a hint for restarts.
func TestACommitIndexAloneIsWrittenLater(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.run()
	f.follow(2, normal("a"), normal("b"), normal("c"))
	f.run()
	f.tellCommit(3)
	f.run()
	if f.Committed() != 3 || f.stored() != 2 {
		t.Fatalf("%d is committed, %d stored", f.Committed(), f.stored())
	}
	f.Tick()
	f.run()
	if f.stored() != 3 {
		t.Errorf("%d is stored after a tick", f.stored())
	}
	f.tellCommit(4)
	f.run()
	f.follow(4, normal("d"))
	f.run()
	if f.stored() != 4 {
		t.Errorf("%d is stored with other entries", f.stored())
	}
	f.tellCommit(6)
	f.run()
	f.Stop()
	if f.stored() != 6 {
		t.Errorf("%d is stored at the end", f.stored())
	}
}

// TestAnAnswerWaitsForWhatIsBeingWritten: one that needs no write leaves at once when nothing is to be written, and otherwise
// after all that is.
func TestAnAnswerWaitsForWhatIsBeingWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.run()
	f.follow(2, normal("a"))
	f.run()
	f.acks()
	f.tellCommit(3)
	f.turns()
	if got := f.acks(); got != 3 {
		t.Errorf("acknowledged %d although nothing was to be written", got)
	}
	f.follow(3, normal("b"))
	f.Step(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2),
		Index: proto.Uint64(4), LogTerm: proto.Uint64(2), Commit: proto.Uint64(4),
	})
	f.turns()
	if got := f.acks(); got != 0 {
		t.Errorf("acknowledged %d before it was written", got)
	}
	f.run()
	if got := f.acks(); got != 4 || f.cfg.Log.LastIndex() != 4 {
		t.Errorf("acknowledged %d after %d was written", got, f.cfg.Log.LastIndex())
	}
}
