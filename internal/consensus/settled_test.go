package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// follow makes the fixture, one of two voters, follow member 2 at term 2 and gives it the entries.
func (f *fixture) follow(commit uint64, entries ...*raftpb.Entry) {
	f.t.Helper()
	before := f.cfg.Log.LastIndex()
	for i, e := range entries {
		e.Index, e.Term = proto.Uint64(before+uint64(i)+1), proto.Uint64(2)
	}
	term, err := f.cfg.Log.Term(before)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Step(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2),
		Index: proto.Uint64(before), LogTerm: proto.Uint64(term), Commit: proto.Uint64(commit), Entries: entries,
	})
}

func normal(data string) *raftpb.Entry {
	return &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Data: []byte(data)}
}

func change(t *testing.T, typ raftpb.ConfChangeType, id uint64) *raftpb.Entry {
	t.Helper()
	data, err := proto.Marshal(&raftpb.ConfChange{Type: typ.Enum(), NodeId: proto.Uint64(id)})
	if err != nil {
		t.Fatal(err)
	}
	return &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: data}
}

// snapshotOf is a MsgSnap of a state with the given voters.
func snapshotOf(index uint64, voters ...uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: proto.Uint64(index), Term: proto.Uint64(2), ConfState: &raftpb.ConfState{Voters: voters},
		}},
	}
}

// TestALogThatIsCutUpToSettledLeavesRaftWhatItLooksFor: raft looks for configuration changes among what it takes for
// unapplied before it stands for election, and panics when that was cut off.
func TestALogThatIsCutUpToSettledLeavesRaftWhatItLooksFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.run()
	settled := f.Settled()
	f.follow(5, normal("a"), normal("b"), normal("c"))
	for f.Turn() || f.AppendTurn() {
	}
	for f.ApplyTurn() { // raft does not hear of it yet
	}
	if f.Applied() != 5 || f.Settled() != settled {
		t.Fatalf("applied %d, settled %d; want 5 and %d", f.Applied(), f.Settled(), settled)
	}
	if err := f.cfg.Log.Cut(f.Settled()); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		f.Tick()
	}
	f.run()
	if f.Settled() != 5 {
		t.Errorf("settled %d after all was applied, want 5", f.Settled())
	}
}

// TestASnapshotIsNotTakenWhileAnOlderConfigurationChangeIsInHand: raft takes a snapshot's configuration at once; the
// older change made afterwards would add a member that the snapshot knows to be gone.
func TestASnapshotIsNotTakenWhileAnOlderConfigurationChangeIsInHand(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.run()
	f.follow(3, change(t, raftpb.ConfChangeAddNode, 3))
	for f.Turn() || f.AppendTurn() {
	}
	f.Step(snapshotOf(10, 1, 2))
	f.Turn()
	for f.ApplyTurn() {
	}
	f.Turn()
	if len(f.append.queue) > 0 {
		t.Error("the snapshot was taken")
	}
	f.run()
	if n := len(f.rn.Status().Config.Voters.IDs()); n != 3 || f.Applied() != 3 {
		t.Errorf("%d voters after entry %d, want 3 after 3", n, f.Applied())
	}
	f.Step(snapshotOf(10, 1, 2))
	f.Turn()
	if n := len(f.rn.Status().Config.Voters.IDs()); n != 2 {
		t.Errorf("%d voters after the snapshot came again, want 2", n)
	}
}

func TestASnapshotIsNeverDroppedUndecided(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	for range messagesMax {
		f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2)})
	}
	f.Step(snapshotOf(1, 1, 2))
	if got := len(f.inbox.messages); got != messagesMax+1 {
		t.Errorf("%d messages wait, want %d and the snapshot", got, messagesMax)
	}
}
