package consensus

import (
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// Measures are what a node counts. They may be read at any time.
type Measures struct {
	// Appends are the times of writes to the log, and Syncs of those among them that returned once they were durable.
	Appends, Syncs *measure.Histogram
	// LeaderChanges counts leaders seen, the first included.
	LeaderChanges measure.Counter
	// Elections are the times that passed without a leader, from its loss, or the start, to the next one.
	Elections *measure.Histogram
	// HeartbeatsLate counts heartbeats that this leader sent later than after two intervals.
	HeartbeatsLate measure.Counter
	// ReadsFailed counts questions for linearizable reads that were given up, ReadsRepeated those that were asked again
	// because no answer came.
	ReadsFailed, ReadsRepeated measure.Counter
}

// electionBounds are 10 ms to 82 s.
var electionBounds = measure.Durations(10*time.Millisecond, 14)

func newMeasures() *Measures {
	syncs := measure.Durations(time.Millisecond, 14)
	return &Measures{
		Appends: measure.NewHistogram(syncs), Syncs: measure.NewHistogram(syncs),
		Elections: measure.NewHistogram(electionBounds),
	}
}

// Measures returns the node's.
func (n *Node) Measures() *Measures { return n.measures }

// leaderless notes from when on there is no leader. It belongs to the raft loop.
type leaderless struct{ since time.Time }

// changed is told of each change of leader.
func (l *leaderless) changed(n *Node, lead uint64) {
	now := n.cfg.Clock.Now()
	if lead == raft.None {
		l.since = now
		return
	}
	n.measures.LeaderChanges.Inc()
	if !l.since.IsZero() {
		n.measures.Elections.Took(now.Sub(l.since))
		l.since = time.Time{}
	}
}

// heartbeats notes when this leader last sent one to each member. It belongs to the raft loop.
type heartbeats struct {
	term uint64
	last map[uint64]time.Time
}

// sent is told of the messages that leave.
func (h *heartbeats) sent(n *Node, ms []*raftpb.Message) {
	var now time.Time
	for _, m := range ms {
		// Those that carry a context are questions for a read, sent between the others.
		if m.GetType() != raftpb.MsgHeartbeat || len(m.GetContext()) > 0 {
			continue
		}
		if now.IsZero() {
			now = n.cfg.Clock.Now()
		}
		if h.term != m.GetTerm() {
			h.term, h.last = m.GetTerm(), make(map[uint64]time.Time)
		}
		interval := time.Duration(n.cfg.HeartbeatTicks) * n.cfg.TickInterval
		if last, ok := h.last[m.GetTo()]; ok && now.Sub(last) > 2*interval {
			n.measures.HeartbeatsLate.Inc()
		}
		h.last[m.GetTo()] = now
	}
}
