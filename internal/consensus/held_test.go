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

// TestWhatRaftHasNoRoomForWaitsItsTurn proposes more bytes than raft may hold that are not applied: none are refused, all are applied in
// order, and the raft loop does not turn in vain meanwhile.
func TestWhatRaftHasNoRoomForWaitsItsTurn(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, vfs.NewMem(), 8<<10, 1)
	f.run()
	var failures []*error
	propose := func(from, to int) {
		for i := from; i < to; i++ {
			failures = append(failures, f.propose(fmt.Sprintf("%03d", i)+string(bytes.Repeat([]byte("x"), 1000))))
		}
	}
	propose(0, 30)
	f.turns()
	if len(f.held) == 0 {
		t.Fatal("raft had room for all of it")
	}
	propose(30, 60) // these come after what is held
	f.turns()
	f.run()
	if len(f.held) != 0 || f.inbox.bytes != 0 || len(f.sm.data) != 60 {
		t.Fatalf("%d are held, %d bytes wait, %d were applied", len(f.held), f.inbox.bytes, len(f.sm.data))
	}
	for i, d := range f.sm.data {
		if got := d[:3]; got != fmt.Sprintf("%03d", i) {
			t.Errorf("number %d is %s", i, got)
		}
		if *failures[i] != nil {
			t.Errorf("number %d failed: %v", i, *failures[i])
		}
	}
}

// TestAProposalIsForgottenOnceRaftHasIt: whoever waits for its result keeps no second copy of its data in memory.
func TestAProposalIsForgottenOnceRaftHasIt(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, vfs.NewMem(), 8<<10, 1)
	f.run()
	var ps []*Proposal
	for i := range 12 {
		ps = append(ps, &Proposal{Data: bytes.Repeat([]byte{byte('a' + i)}, 1000)})
		if err := f.Propose(ps[i]); err != nil {
			t.Fatal(err)
		}
	}
	f.turns()
	held := f.held
	if len(held) == 0 || len(held) == len(ps) {
		t.Fatalf("%d of %d are held", len(held), len(ps))
	}
	for i, p := range ps {
		if waits := i >= len(ps)-len(held); waits != (len(p.Data) > 0) {
			t.Errorf("number %d, of which raft has %d, has %d bytes", i, len(ps)-len(held), len(p.Data))
		}
	}
	f.run()
	if len(f.sm.data) != len(ps) {
		t.Fatalf("%d of %d were applied", len(f.sm.data), len(ps))
	}
	for i, d := range f.sm.data {
		if d != string(bytes.Repeat([]byte{byte('a' + i)}, 1000)) || ps[i].Data != nil {
			t.Errorf("number %d is applied as %.5s…, and has %d bytes", i, d, len(ps[i].Data))
		}
	}
}

// TestWhatIsHeldOutlastsItsLeader goes back to where proposals wait for a leader, except for what a follower passed on.
func TestWhatIsHeldOutlastsItsLeader(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, vfs.NewMem(), 8<<10, 1, 2, 3)
	f.elect()
	large := string(bytes.Repeat([]byte("x"), 6<<10))
	f.propose(large)
	f.turns()
	f.AppendTurn()
	own := f.propose("own" + large)
	f.passOn(normal("theirs"))
	f.turns()
	if len(f.held) != 2 {
		t.Fatalf("%d are held", len(f.held))
	}
	f.Step(&raftpb.Message{Type: raftpb.MsgPreVoteResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1),
		Term: proto.Uint64(f.Term() + 1), Reject: proto.Bool(true)})
	f.turns()
	if f.Leader() != 0 {
		t.Fatal("there is a leader")
	}
	if got := len(f.inbox.proposals); len(f.held) != 0 || got != 1 || f.inbox.bytes != len(large)+3 {
		t.Errorf("%d are held, %d wait, of %d bytes", len(f.held), got, f.inbox.bytes)
	}
	if *own != nil {
		t.Errorf("it failed: %v", *own)
	}
}

// TestWhatIsHeldFailsWhenTheNodeStops: nobody else would tell.
func TestWhatIsHeldFailsWhenTheNodeStops(t *testing.T) {
	t.Parallel()
	f := newFixtureOf(t, vfs.NewMem(), 1<<10, 1, 2, 3)
	f.elect()
	f.propose(string(bytes.Repeat([]byte("x"), 1000)))
	f.turns()
	f.AppendTurn()
	held := f.propose(string(bytes.Repeat([]byte("y"), 1000)))
	f.turns()
	f.failWaiting(ErrStopped)
	if !errors.Is(*held, ErrStopped) {
		t.Errorf("got %v", *held)
	}
}
