package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// flow makes a leader of three members that is sent one proposal after another, of which the last is committed and all is told.
func flow(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	for range 3 {
		f.commits("before")
	}
	f.Tick()
	f.run()
	f.acknowledged()
	return f
}

// commits has a proposal of this member committed by the answer of all.
func (f *fixture) commits(data string) {
	f.t.Helper()
	f.propose(data)
	f.run()
	f.acknowledged()
}

// acknowledged has the followers answer what is in the log.
func (f *fixture) acknowledged() {
	for _, id := range []uint64{2, 3} {
		f.from(id, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
	}
	f.run()
}

// told returns the highest commit index that a member was told of, and whether by a message that says nothing else.
func (f *fixture) told(id uint64) (commit uint64, alone bool) {
	for _, m := range f.sent {
		if m.GetTo() == id && m.GetType() == raftpb.MsgApp && m.GetCommit() > commit {
			commit, alone = m.GetCommit(), len(m.GetEntries()) == 0
		}
	}
	return commit, alone
}

// isTold checks that each of both followers was told alone of the newest commit index, or was not.
func (f *fixture) isTold(what string, want map[uint64]bool) {
	f.t.Helper()
	for id, now := range want {
		commit, alone := f.told(id)
		if got := alone && commit == f.Committed(); got != now {
			f.t.Errorf("%s: member %d was told at once: %v, want %v", what, id, got, now)
		}
	}
}

func (f *fixture) clock() *clock.Manual { return f.cfg.Clock.(*clock.Manual) }

// TestNewsOfACommitGoesWithTheNextEntries while they come one after another, and with a tick when none come.
func TestNewsOfACommitGoesWithTheNextEntries(t *testing.T) {
	t.Parallel()
	f := flow(t)
	f.sent = nil
	f.commits("a")
	f.isTold("a proposal of the leader's own", map[uint64]bool{2: false, 3: false})
	committed := f.Committed()
	f.propose("b")
	f.run()
	for _, id := range []uint64{2, 3} {
		if commit, alone := f.told(id); commit != committed || alone {
			t.Errorf("member %d was told %d with the next entries (alone: %v), want %d", id, commit, alone, committed)
		}
	}
	f.acknowledged()
	f.sent = nil
	f.Tick()
	f.run()
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgHeartbeat && m.GetCommit() != f.Committed() {
			t.Errorf("the heartbeat of a tick tells %d, want %d", m.GetCommit(), f.Committed())
		}
	}
	if f.notices.held != 0 {
		t.Errorf("%d notices are held after a tick that told everybody", f.notices.held)
	}
}

// TestNewsOfACommitIsNotHeldFromWhoWaitsForIt: who passed the proposal on, or reads, and everybody where members change.
func TestNewsOfACommitIsNotHeldFromWhoWaitsForIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(f *fixture)
		want map[uint64]bool
	}{
		"a follower passed it on": {func(f *fixture) {
			f.passOn(normal("theirs"))
			f.run()
			f.acknowledged()
		}, map[uint64]bool{2: true, 3: false}},
		"a follower reads what it has not been told": {func(f *fixture) {
			f.propose("a")
			f.run()
			f.from(3, raftpb.MsgAppResp, f.cfg.Log.LastIndex()) // 2 is slower, so a heartbeat does not tell it
			f.run()
			f.ask(2, "read")
			f.run()
			f.confirmRound(f.rounds()[0])
			f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
			f.run()
		}, map[uint64]bool{2: true, 3: false}},
		"it changes who is a member": {func(f *fixture) {
			data, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(3)})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Propose(&Proposal{Data: data, ConfChange: true}); err != nil {
				t.Fatal(err)
			}
			f.run()
			f.acknowledged()
		}, map[uint64]bool{2: true, 3: true}},
		"entries come now and then": {func(f *fixture) {
			f.clock().Advance(noticeWait + 1)
			f.commits("a")
		}, map[uint64]bool{2: true, 3: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := flow(t)
			f.sent = nil
			c.do(f)
			f.isTold(name, c.want)
		})
	}
}

// TestANewLeaderHoldsNothingBack of what it finds in its log.
func TestANewLeaderHoldsNothingBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.commits("first of its term")
	f.isTold("its first entries", map[uint64]bool{3: true}) // 2 was told when it elected this one
}

// TestNewsOfACommitGoesInTime when a timer is all that happens.
func TestNewsOfACommitGoesInTime(t *testing.T) {
	t.Parallel()
	f := flow(t)
	f.started.Store(true) // for the timer; the test takes the turns
	f.sent = nil
	f.commits("a")
	f.isTold("before its time", map[uint64]bool{2: false, 3: false})
	f.clock().Advance(noticeWait)
	f.run()
	f.isTold("in time", map[uint64]bool{2: true, 3: true})

	f.commits("b")
	f.from(2, raftpb.MsgHeartbeat, 0) // of a leader that took its place
	f.sent = nil
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(f.Term() + 1)})
	f.run()
	f.clock().Advance(noticeWait)
	f.run()
	if commit, _ := f.told(3); commit != 0 {
		t.Errorf("who leads no more tells a commit index, %d", commit)
	}
}
