package consensus

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestALeadersOwnProposalIsNotPassedOnToItsSuccessor: a leader that stood still finds its own proposals and the messages of its
// successor in the same turn. What it decided as the leader must not go into the log of a later term.
func TestALeadersOwnProposalIsNotPassedOnToItsSuccessor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	term, leads := f.Leads()
	if !leads {
		t.Fatal("it does not lead")
	}
	var failed error
	propose := func(p *Proposal) {
		if err := f.Propose(p); err != nil {
			t.Fatal(err)
		}
	}
	propose(&Proposal{Data: []byte("taken"), Urgent: true, LeaderTerm: term, Fail: func(err error) { t.Error(err) }})
	f.run()
	if !slices.Contains(f.sm.data, "taken") {
		t.Error("what the leader proposed in its term was not applied")
	}
	propose(&Proposal{Data: []byte("decided"), Urgent: true, LeaderTerm: term, Fail: func(err error) { failed = err }})
	propose(&Proposal{Data: []byte("asked for")})
	f.Step(&raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(term + 1),
	})
	f.run()
	if !errors.Is(failed, ErrLeaderChanged) {
		t.Errorf("the leader's own proposal ended with %v", failed)
	}
	var passed []string
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgProp {
			for _, e := range m.GetEntries() {
				passed = append(passed, string(e.GetData()))
			}
		}
	}
	if want := []string{"asked for"}; !slices.Equal(passed, want) {
		t.Errorf("passed on to the successor: %q, want %q", passed, want)
	}
}
