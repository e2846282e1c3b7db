package consensus

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// learner is the change that adds a learner.
func learner(t *testing.T, id uint64) []byte {
	t.Helper()
	data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: proto.Uint64(id)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestChangesThatComeTogetherAllHappen: raft takes one change at a time and forgets the others.
func TestChangesThatComeTogetherAllHappen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	// Before the first turn: a new leader takes none before it has applied what it found.
	for id := uint64(2); id < 6; id++ {
		err := f.Propose(&Proposal{Data: learner(t, id), ConfChange: true, Fail: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.run()
	f.Step(&raftpb.Message{
		Type: raftpb.MsgProp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1),
		Entries: []*raftpb.Entry{
			{Type: raftpb.EntryConfChange.Enum(), Data: learner(t, 6)},
			{Data: []byte("between")},
			{Type: raftpb.EntryConfChange.Enum(), Data: learner(t, 7)},
		},
	})
	f.run()
	if want := []uint64{1, 2, 3, 4, 5, 6, 7}; !slices.Equal(f.sm.changes, want) {
		t.Errorf("the changes made are %v, want %v", f.sm.changes, want)
	}
	if !slices.Contains(f.sm.data, "between") {
		t.Error("the proposal between two changes of another member is lost")
	}
}

// TestAChangeThatNobodyWaitsForAnyMoreIsNotMade, though it has waited behind another one.
func TestAChangeThatNobodyWaitsForAnyMoreIsNotMade(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	gone := false
	for id := uint64(2); id < 5; id++ {
		err := f.Propose(&Proposal{Data: learner(t, id), ConfChange: true, Cancelled: func() bool { return gone && id == 3 }})
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Turn()
	if n := len(f.changes.waiting); n != 2 {
		t.Fatalf("%d changes wait behind the first", n)
	}
	gone = true
	f.run()
	if want := []uint64{1, 2, 4}; !slices.Equal(f.sm.changes, want) {
		t.Errorf("the changes made are %v, want %v", f.sm.changes, want)
	}
}

// TestAChangeDoesNotWaitForWhatWasLost: the entries after which this leader would have taken the next change were never committed, and
// it leads again with a log that is shorter.
func TestAChangeDoesNotWaitForWhatWasLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	base, term := f.cfg.Log.LastIndex(), f.Term()
	f.change(raftpb.ConfChangeAddLearnerNode, 4)
	for range 5 {
		f.propose("lost")
	}
	f.run()
	if last := f.cfg.Log.LastIndex(); last != base+6 || f.changes.after != last {
		t.Fatalf("the log ends at %d, before at %d; the next change goes after %d", last, base, f.changes.after)
	}
	f.Step(&raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(term + 1),
		Index: proto.Uint64(base), LogTerm: proto.Uint64(term), Commit: proto.Uint64(base),
		Entries: []*raftpb.Entry{{Term: proto.Uint64(term + 1), Index: proto.Uint64(base + 1)}},
	})
	f.run()
	f.sent = nil
	f.elect()
	f.change(raftpb.ConfChangeAddLearnerNode, 5)
	for range 3 {
		f.run()
		f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
	}
	f.run()
	if !slices.Contains(f.sm.changes, 5) {
		t.Errorf("the changes made are %v; entry %d is applied, and the next change goes after %d", f.sm.changes, f.Applied(), f.changes.after)
	}
}

func TestAChangeThatWaitsFailsWhenTheNodeStops(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2) // no quorum
	var got error
	err := f.Propose(&Proposal{Data: learner(t, 3), ConfChange: true, Fail: func(err error) { got = err }})
	if err != nil {
		t.Fatal(err)
	}
	f.run()
	f.Stop()
	if !errors.Is(got, ErrStopped) {
		t.Errorf("it ended with %v", got)
	}
}

func TestProgressIsKnownToALeaderAlone(t *testing.T) {
	t.Parallel()
	ask := func(f *fixture, id uint64) (p Progress, leader bool) {
		f.AskProgress(id, func(q Progress, l bool) { p, leader = q, l })
		f.run()
		return p, leader
	}
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	if p, leader := ask(f, 1); !leader || !p.Known || p.Match == 0 || p.Match != p.LeaderMatch {
		t.Errorf("of itself the leader knows %+v, %v", p, leader)
	}
	if p, leader := ask(f, 2); !leader || p.Known {
		t.Errorf("of a stranger the leader knows %+v, %v", p, leader)
	}
	if _, leader := ask(newFixture(t, vfs.NewMem(), 1, 2), 1); leader {
		t.Error("a follower says that it leads")
	}
}
