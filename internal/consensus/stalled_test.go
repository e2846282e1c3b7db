package consensus

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// TestALeaderWhoseDiskStandsStillHandsOver: to the member whose log reaches furthest, and then to the next one when that does not
// take over; not before an election timeout, and not once the disk goes on.
func TestALeaderWhoseDiskStandsStillHandsOver(t *testing.T) {
	t.Parallel()
	goOn, stuck := make(chan struct{}), make(chan struct{}, 100)
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			stuck <- struct{}{}
			<-goOn
		}
		return nil
	})}
	f := newFixture(t, errorfs.Wrap(vfs.NewMem(), toggle), 1, 2, 3)
	f.elect()
	f.wait(1)
	f.run()
	toggle.On()
	f.propose("x")
	f.Turn()
	appended := make(chan struct{})
	go func() {
		f.AppendTurn()
		close(appended)
	}()
	<-stuck
	last := f.lastIndex()

	f.from(2, raftpb.MsgAppResp, last-1)
	f.from(3, raftpb.MsgAppResp, last)
	f.wait(f.cfg.ElectionTicks)
	if got := f.askedToTakeOver(); got != nil {
		t.Errorf("%d were asked to take over within an election timeout", got)
	}
	f.wait(1)
	if got := f.askedToTakeOver(); !slices.Equal(got, []uint64{3}) {
		t.Errorf("%d were asked to take over, want 3, whose log reaches furthest", got)
	}
	f.from(2, raftpb.MsgAppResp, last)
	f.sent = nil
	for range 2 * f.cfg.ElectionTicks {
		if len(f.askedToTakeOver()) == 0 {
			f.wait(1)
		}
	}
	if got := f.askedToTakeOver(); !slices.Equal(got, []uint64{2}) {
		t.Errorf("%d were asked to take over after the first one did not", got)
	}

	toggle.Off()
	close(goOn)
	<-appended
	f.run()
	if f.stalled.tried[3] != true {
		t.Error("whom it asked is forgotten while the disk stands still")
	}
	f.wait(1)
	if f.stalled.tried != nil {
		t.Error("whom it asked is not forgotten although the disk goes on")
	}
}

// elect makes the node, member 1 of several, the leader.
func (f *fixture) elect() {
	f.t.Helper()
	f.run()
	f.Campaign()
	f.run()
	f.from(2, raftpb.MsgPreVoteResp, 0)
	f.run()
	f.from(2, raftpb.MsgVoteResp, 0)
	f.run()
	if !f.IsLeader() {
		f.t.Fatal("it does not lead")
	}
	f.from(2, raftpb.MsgAppResp, f.lastIndex())
	f.run()
	f.sent = nil
}

// lastIndex is the last index that the others were sent.
func (f *fixture) lastIndex() (last uint64) {
	for _, m := range f.sent {
		for _, e := range m.GetEntries() {
			last = max(last, e.GetIndex())
		}
	}
	return last
}

// from is a message of another member.
func (f *fixture) from(id uint64, kind raftpb.MessageType, index uint64) {
	term := f.Term()
	if kind == raftpb.MsgPreVoteResp {
		term++ // the one it asks for
	}
	f.Step(&raftpb.Message{
		Type: kind.Enum(), From: proto.Uint64(id), To: proto.Uint64(1), Term: proto.Uint64(term), Index: proto.Uint64(index),
	})
	f.Turn()
}

// wait lets ticks go by, in which the others are heard of.
func (f *fixture) wait(ticks int) {
	for range ticks {
		f.from(2, raftpb.MsgHeartbeatResp, 0)
		f.from(3, raftpb.MsgHeartbeatResp, 0)
		f.cfg.Clock.(*clock.Manual).Advance(time.Second)
		f.Tick()
		f.Turn()
	}
}

// askedToTakeOver returns who was told to stand for election.
func (f *fixture) askedToTakeOver() (out []uint64) {
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgTimeoutNow {
			out = append(out, m.GetTo())
		}
	}
	return out
}
