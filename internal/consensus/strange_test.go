package consensus

import (
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestWhatNoMemberSendsDoesNoHarm: raft would panic at it, take it for its own, or commit what ends every member.
func TestWhatNoMemberSendsDoesNoHarm(t *testing.T) {
	t.Parallel()
	lead, wait := (*fixture).elect, (*fixture).run
	follow := func(f *fixture) {
		f.run()
		f.follow(3)
		f.run()
	}
	stand := func(f *fixture) {
		f.run()
		f.Campaign()
		f.run()
		f.from(2, raftpb.MsgPreVoteResp, 0)
		f.run()
	}
	snapshot := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(9), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
	}}
	for name, c := range map[string]struct {
		be func(*fixture)
		m  *raftpb.Message
	}{
		"a proposal of nothing": {lead, &raftpb.Message{Type: raftpb.MsgProp.Enum()}},
		"a joint configuration": {lead, &raftpb.Message{Type: raftpb.MsgProp.Enum(),
			Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum()}}}},
		"a joint configuration that cannot be read": {lead, &raftpb.Message{Type: raftpb.MsgProp.Enum(),
			Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{0xff}}}}},
		"a change that cannot be read": {lead, &raftpb.Message{Type: raftpb.MsgProp.Enum(),
			Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}}}}},
		"an answer to a heartbeat with half a number": {lead, &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(),
			Term: proto.Uint64(2), Context: []byte("abc")}},
		"a question of the leader without a context": {lead, &raftpb.Message{Type: raftpb.MsgReadIndex.Enum()}},
		"a candidate without a term": {wait, &raftpb.Message{Type: raftpb.MsgVote.Enum(),
			LogTerm: proto.Uint64(9), Index: proto.Uint64(9)}},
		"a leader without a term": {wait, &raftpb.Message{Type: raftpb.MsgApp.Enum(), Index: proto.Uint64(3), LogTerm: proto.Uint64(1),
			Entries: []*raftpb.Entry{{Term: proto.Uint64(1), Index: proto.Uint64(4)}}}},
		"a question with a term": {follow, &raftpb.Message{Type: raftpb.MsgReadIndex.Enum(), Term: proto.Uint64(2),
			Entries: []*raftpb.Entry{{Data: []byte("context")}}}},
		"a wish for another leader that is passed on": {follow, &raftpb.Message{Type: raftpb.MsgTransferLeader.Enum(), Term: proto.Uint64(2)}},
		"a snapshot without a term":                   {stand, &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: snapshot}},
		"a snapshot of its own":                       {wait, &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Term: proto.Uint64(2), From: proto.Uint64(1), Snapshot: snapshot}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, vfs.NewMem(), 1, 2, 3)
			c.be(f)
			f.sent = nil
			leader, term, last := f.Leader(), f.Term(), f.cfg.Log.LastIndex()
			if c.m.To = proto.Uint64(1); c.m.From == nil {
				c.m.From = proto.Uint64(3)
			}
			f.Step(c.m)
			f.run()
			if f.fatal != nil || f.Leader() != leader || f.Term() != term || f.cfg.Log.LastIndex() != last || len(f.sent) != 0 {
				t.Errorf("it led to: %v, leader %d, term %d, the last entry %d, and sent %v; before it was %d, %d, %d",
					f.fatal, f.Leader(), f.Term(), f.cfg.Log.LastIndex(), f.sent, leader, term, last)
			}
		})
	}
}

// TestAProposalThatComesWithTheElectionIsLost: it came when there was no leader, and is not given to raft as this member's own.
func TestAProposalThatComesWithTheElectionIsLost(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.run()
	f.Campaign()
	f.run()
	f.from(2, raftpb.MsgPreVoteResp, 0)
	f.run()
	f.Step(&raftpb.Message{Type: raftpb.MsgVoteResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(f.Term())})
	f.passOn() // nothing, at which raft panics
	f.passOn(&raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}})
	f.run()
	if last := f.cfg.Log.LastIndex(); !f.IsLeader() || last != 4 {
		t.Errorf("it leads: %v, the last entry is %d", f.IsLeader(), last)
	}
}

// TestOthersAreAllowedToProposeOnlyWhatCanBeApplied.
func TestOthersAreAllowedToProposeOnlyWhatCanBeApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.cfg.Acceptable = func(e *raftpb.Entry) error {
		if string(e.GetData()) == "deadly" {
			return errors.New("it is deadly")
		}
		return nil
	}
	f.elect()
	f.passOn(normal("deadly"))
	f.passOn(normal("one"), normal("deadly"), normal("two"))
	f.run()
	f.from(2, raftpb.MsgAppResp, f.cfg.Log.LastIndex())
	f.run()
	if want := []string{"one", "two"}; !slices.Equal(f.sm.data, want) {
		t.Errorf("applied %q, want %q", f.sm.data, want)
	}
}
