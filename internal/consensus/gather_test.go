package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// passOn is what a follower passes on.
func (f *fixture) passOn(entries ...*raftpb.Entry) {
	f.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Entries: entries})
}

// appends returns how many entries each message had that follower 2 was sent, and forgets them.
func (f *fixture) appends() (sizes []int) {
	for _, m := range f.sent {
		if n := len(m.GetEntries()); m.GetType() == raftpb.MsgApp && m.GetTo() == 2 && n > 0 {
			sizes = append(sizes, n)
		}
	}
	f.sent = nil
	return sizes
}

// turns runs the raft loop alone, as if the log were being written.
func (f *fixture) turns() {
	for f.Turn() {
	}
}

// TestProposalsGatherWhileTheLogIsWritten: those of clients here and those that followers pass on, and then all of them are one
// append.
func TestProposalsGatherWhileTheLogIsWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex()) // from now on it is sent whatever there is
	f.propose("first")
	f.turns()
	if got := fmt.Sprint(f.appends()); got != "[1]" {
		t.Fatalf("a proposal that is alone was sent as %s", got)
	}
	for i := range 5 {
		f.propose(fmt.Sprint("own ", i))
		f.passOn(normal("theirs"), normal("theirs"))
		f.turns()
	}
	if got := f.appends(); len(got) != 0 {
		t.Fatalf("%d were sent while the log was written", got)
	}
	f.AppendTurn()
	f.turns()
	if got := fmt.Sprint(f.appends()); got != "[15]" {
		t.Errorf("what gathered was sent as %s", got)
	}
}

// TestManyProposalsDoNotWaitForTheLog: large ones are on their way to the followers while it is written.
func TestManyProposalsDoNotWaitForTheLog(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ n, size int }{
		"large ones": {2, gatherBytesMax / 2},
		"many":       {gatherMax, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, vfs.NewMem(), 1, 2, 3)
			f.elect()
			f.propose("first")
			f.turns()
			for i := range test.n {
				if f.turns(); f.inbox.bytes == 0 && i > 0 {
					t.Fatalf("%d did not wait", i)
				}
				f.propose(string(bytes.Repeat([]byte("x"), test.size)))
			}
			f.turns()
			if f.inbox.bytes != 0 {
				t.Errorf("%d bytes wait", f.inbox.bytes)
			}
		})
	}
}

// TestWhatAFollowerPassedOnIsForgottenWithItsLeader: nobody here knows for how long they wait. What clients here wait for stays.
func TestWhatAFollowerPassedOnIsForgottenWithItsLeader(t *testing.T) {
	t.Parallel()
	f := gathering(t)
	f.passOn(normal("theirs"))
	f.propose("own")
	f.Step(&raftpb.Message{Type: raftpb.MsgPreVoteResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1),
		Term: proto.Uint64(f.Term() + 1), Reject: proto.Bool(true)})
	f.turns()
	if f.Leader() != 0 {
		t.Fatal("there is a leader")
	}
	if got := len(f.inbox.proposals); got != 1 || string(f.inbox.proposals[0].Data) != "own" || f.inbox.bytes != len("own") {
		t.Errorf("%d wait, of %d bytes", got, f.inbox.bytes)
	}
	f.passOn(normal("late"))
	f.run()
	if got := len(f.inbox.proposals); got != 1 {
		t.Errorf("%d wait: one was passed on to a member without a leader", got)
	}
}

// TestWhatIsPassedOnIsBounded: as by a network, more is lost; clients here are refused.
func TestWhatIsPassedOnIsBounded(t *testing.T) {
	t.Parallel()
	f := gathering(t)
	many := make([]*raftpb.Entry, proposalsMax+1)
	for i := range many {
		many[i] = normal("x")
	}
	f.passOn(many...)
	if got := len(f.inbox.proposals); got != proposalsMax {
		t.Errorf("%d wait", got)
	}
	if err := f.Propose(&Proposal{Data: []byte("y")}); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("one more: %v", err)
	}
}

// gathering is the leader of three that writes its log: what is proposed now waits.
func gathering(t *testing.T) *fixture {
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.propose("first")
	f.turns()
	return f
}
