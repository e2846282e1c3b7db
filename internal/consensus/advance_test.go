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

// hear takes a heartbeat of the leader of term 2.
func (f *fixture) hear(leader uint64) {
	to, term := uint64(1), uint64(2)
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: &leader, To: &to, Term: &term})
	f.run()
}

// mustStandWithinTen checks that it does not stand for election yet, and does so within ten ticks.
func (f *fixture) mustStandWithinTen(t *testing.T) {
	t.Helper()
	if f.asksForVotes() {
		t.Fatal("it stands for election before its election timeout")
	}
	for range 10 {
		f.Tick()
		f.run()
	}
	if !f.asksForVotes() {
		t.Error("ten ticks later it does not stand for election")
	}
}

func TestTicksPassAtOnceOnlyWithoutALeader(t *testing.T) {
	t.Parallel()
	// raft draws election timeouts of 10 to 19 ticks.
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.run()
	f.Advance(9)
	f.run()
	f.mustStandWithinTen(t)

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
	const from = 2
	f.hear(from)
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
	const from = 2
	f.hear(from)
	f.AdvanceWithout(from, 9)
	f.hear(from) // it is not gone: all begins anew
	f.AdvanceWithout(from, 9)
	f.run()
	f.mustStandWithinTen(t)
}
