package consensus

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// asksForVotes says whether the node has stood for election, in its first phase at least.
func (f *fixture) asksForVotes() bool {
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgPreVote {
			return true
		}
	}
	return false
}

func TestTicksPassAtOnceOnlyWithoutALeader(t *testing.T) {
	t.Parallel()
	// raft draws election timeouts of 10 to 19 ticks.
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.run()
	f.Advance(9)
	f.run()
	if f.asksForVotes() {
		t.Fatal("it stands for election before its election timeout")
	}
	for range 10 {
		f.Tick()
		f.run()
	}
	if !f.asksForVotes() {
		t.Error("it does not stand for election 19 ticks after its start")
	}

	alone := newFixture(t, vfs.NewMem(), 1)
	alone.run()
	term := alone.Term()
	alone.Advance(100)
	alone.run()
	if !alone.IsLeader() || alone.Term() != term {
		t.Error("a leader lost its place")
	}
}

func TestAFollowerOfALeaderIsNotHastened(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.run()
	from, to, term := uint64(2), uint64(1), uint64(2)
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &from, To: &to, Term: &term})
	f.run()
	if f.Leader() != from {
		t.Fatal("it does not follow")
	}
	f.Advance(100)
	f.AdvanceWithout(3, 100)
	f.run()
	if f.asksForVotes() {
		t.Error("it stands for election although it has a leader")
	}
}

func TestAFollowerOfALeaderThatIsGoneIsHastened(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	from, to, term := uint64(2), uint64(1), uint64(2)
	beat := func() {
		f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &from, To: &to, Term: &term})
		f.run()
	}
	beat()
	f.AdvanceWithout(from, 9)
	beat() // it is not gone: all begins anew
	f.AdvanceWithout(from, 9)
	f.run()
	if f.asksForVotes() {
		t.Fatal("it stands for election before its election timeout")
	}
	for range 10 {
		f.Tick()
		f.run()
	}
	if !f.asksForVotes() {
		t.Error("it waits for a whole election timeout")
	}
}
