package consensus

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// goesOn says whether a read may go on now, before anything else happens.
func (f *fixture) goesOn() bool {
	b := f.BeginRead()
	return decided(b) && b.Err() == nil
}

// change proposes a change of the configuration.
func (f *fixture) change(kind raftpb.ConfChangeType, id uint64) {
	f.t.Helper()
	data, err := proto.Marshal(&raftpb.ConfChange{Type: kind.Enum(), NodeId: proto.Uint64(id)})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.Propose(&Proposal{Data: data, ConfChange: true}); err != nil {
		f.t.Fatal(err)
	}
}

func TestTheOnlyVoterReadsWithoutAQuestion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	if f.goesOn() {
		t.Fatal("a read went on before there was a leader")
	}
	f.run()
	counter := f.reads.counter
	if !f.goesOn() || f.reads.counter != counter {
		t.Errorf("a read waits, or %d questions were asked", f.reads.counter-counter)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.ReadBarrier(ctx); err != nil {
		t.Errorf("the barrier: %v", err)
	}
	f.propose("x")
	for f.Turn() || f.AppendTurn() { // everything but apply
	}
	if f.Applied() >= f.Committed() || f.goesOn() {
		t.Error("a read went on before what was committed is applied")
	}
	f.run()
	if !f.goesOn() {
		t.Error("a read waits although all is applied")
	}
	f.Stop()
	if f.goesOn() {
		t.Error("a read went on after the end")
	}
}

// TestTheOnlyVoterReadsOnlyWhatItHasProven: what was committed before a start may be known by the entry of the new term only.
func TestTheOnlyVoterReadsOnlyWhatItHasProven(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	for range 20 {
		for range 5 { // it is elected, and its entry is not written
			f.Turn()
		}
		if term, err := f.cfg.Log.Term(f.Committed()); f.goesOn() && term != f.Term() || err != nil {
			t.Fatalf("a read went on in term %d, and the last entry that is committed is of term %d, %v", f.Term(), term, err)
		}
		f.AppendTurn()
		f.ApplyTurn()
	}
	if !f.goesOn() {
		t.Error("a read waits in the end")
	}
}

func TestAnotherVoterHasASayInReads(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.change(raftpb.ConfChangeAddNode, 2)
	for range 100 {
		f.Turn()
		for _, m := range f.sent {
			if f.goesOn() {
				t.Fatalf("a read goes on after %v", m.GetType())
			}
		}
		f.AppendTurn()
		f.ApplyTurn()
	}
	if len(f.sent) == 0 || f.goesOn() {
		t.Fatalf("%d messages to the other voter, and a read goes on: %v", len(f.sent), f.goesOn())
	}
}

func TestALearnerHasNoSayInReads(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.change(raftpb.ConfChangeAddLearnerNode, 2)
	f.run()
	if !f.goesOn() {
		t.Error("a read waits for a learner")
	}
}

// TestWhoeverStepsDownReadsNothingAlone: a higher term, of whomever, ends the leadership of the only voter.
func TestWhoeverStepsDownReadsNothingAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	if !f.goesOn() {
		t.Fatal("a read waits")
	}
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(f.Term() + 1)})
	f.Turn()
	if f.goesOn() {
		t.Error("a read went on after another leader was heard of")
	}
}

// TestSeveralVotersAskForEachRead: none of them reads alone.
func TestSeveralVotersAskForEachRead(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	if f.goesOn() {
		t.Error("a read went on without a round of heartbeats")
	}
}
