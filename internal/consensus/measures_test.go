package consensus

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// counting is a node that only counts.
func counting(c clock.Clock) *Node {
	return &Node{cfg: Config{Clock: c, TickInterval: 100 * time.Millisecond, HeartbeatTicks: 1}, measures: newMeasures(),
		leaderless: leaderless{c.Now()}}
}

func TestTheTimeWithoutALeaderIsMeasured(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(1, 0))
	n := counting(c)
	for _, x := range []struct {
		lead uint64
		wait time.Duration
	}{{1, time.Second}, {raft.None, time.Minute}, {2, 2 * time.Second}, {3, time.Minute}} {
		c.Advance(x.wait)
		n.leaderless.changed(n, x.lead)
	}
	r := n.measures.Elections.Read()
	if r.Count != 2 || r.Sum != int64(3*time.Second) || n.measures.LeaderChanges.Value() != 3 {
		t.Errorf("%d elections of %v together, %d leaders; want 2 of 3s, 3", r.Count, time.Duration(r.Sum), n.measures.LeaderChanges.Value())
	}
}

func TestHeartbeatsAreLateAfterTwoIntervals(t *testing.T) {
	t.Parallel()
	c := clock.NewManual(time.Unix(1, 0))
	n := counting(c)
	send := func(typ raftpb.MessageType, term uint64, context []byte) {
		n.heartbeats.sent(n, []*raftpb.Message{{Type: typ.Enum(), To: proto.Uint64(2), Term: proto.Uint64(term), Context: context}})
	}
	for i, x := range []struct {
		wait    time.Duration
		typ     raftpb.MessageType
		term    uint64
		context []byte
		late    uint64
	}{
		{time.Minute, raftpb.MsgHeartbeat, 1, nil, 0}, // the first
		{200 * time.Millisecond, raftpb.MsgHeartbeat, 1, nil, 0},
		{201 * time.Millisecond, raftpb.MsgHeartbeat, 1, nil, 1},
		{150 * time.Millisecond, raftpb.MsgHeartbeat, 1, []byte("read"), 1}, // not one of those
		{150 * time.Millisecond, raftpb.MsgHeartbeat, 1, nil, 2},
		{time.Minute, raftpb.MsgApp, 1, nil, 2},
		{0, raftpb.MsgHeartbeat, 2, nil, 2}, // the first of another term
	} {
		c.Advance(x.wait)
		send(x.typ, x.term, x.context)
		if got := n.measures.HeartbeatsLate.Value(); got != x.late {
			t.Errorf("step %d: %d late, want %d", i, got, x.late)
		}
	}
}
