package consensus

import (
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// appender is the append loop: it makes entries and hard states durable, in
// order, everything that waits in one batch and one sync.
type appender struct {
	n *Node

	mu         sync.Mutex
	queue      []*raftpb.Message // guarded by mu
	installing *raftpb.Message   // guarded by mu; the loop stands still until apply has installed it

	wake chan struct{}

	underWay atomic.Int64 // messages with entries that are queued or being written

	saved raftlog.HardState // what the log holds; append loop only
	began atomic.Int64      // when the write in hand began, in Unix nanoseconds; 0 when there is none
}

func (a *appender) init(n *Node) {
	a.n, a.wake = n, make(chan struct{}, 1)
	a.saved = n.cfg.Log.HardState()
}

func (a *appender) put(m *raftpb.Message) {
	if len(m.GetEntries()) > 0 {
		a.underWay.Add(1)
	}
	a.mu.Lock()
	a.queue = append(a.queue, m)
	a.mu.Unlock()
	a.signal()
}

func (a *appender) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns the messages up to, not including, the first one with a snapshot;
// that one alone when it is the first.
func (a *appender) take() []*raftpb.Message {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.installing != nil {
		return nil
	}
	end := len(a.queue)
	for i, m := range a.queue {
		if !raft.IsEmptySnap(m.GetSnapshot()) {
			end = max(i, 1)
			break
		}
	}
	msgs := a.queue[:end:end]
	a.queue = a.queue[end:]
	if len(msgs) == 1 && !raft.IsEmptySnap(msgs[0].GetSnapshot()) {
		a.installing = msgs[0]
	}
	return msgs
}

// AppendTurn writes everything that waits for the log and then delivers the
// responses. It reports whether there was anything to do. Only one goroutine may
// call it.
func (n *Node) AppendTurn() bool {
	a := &n.append
	msgs := a.take()
	if len(msgs) == 0 {
		return false
	}
	if !raft.IsEmptySnap(msgs[0].GetSnapshot()) {
		// From here on the apply loop has the word; see installed.
		n.apply.putInstall(msgs[0])
		return true
	}
	if err := a.write(msgs); err != nil {
		n.fatal(fmt.Errorf("append to the raft log: %w", err))
		return false
	}
	n.deliver(msgs)
	return true
}

// write stores the entries and the last hard state of msgs. A sync is needed when
// entries, term or vote change; a commit index alone is only a hint for restarts.
func (a *appender) write(msgs []*raftpb.Message) error {
	var entries []*raftpb.Entry
	if len(msgs) == 1 {
		entries = msgs[0].GetEntries()
	} else {
		for _, m := range msgs {
			entries = append(entries, m.GetEntries()...)
		}
	}
	hs, changed := a.saved, false
	for _, m := range msgs {
		if m.Term != nil {
			hs, changed = hardStateOf(m), true
		}
	}
	changed = changed && hs != a.saved
	if len(entries) == 0 && !changed {
		return nil
	}
	sync := len(entries) > 0 || hs.Term != a.saved.Term || hs.Vote != a.saved.Vote
	var save *raftlog.HardState
	if changed {
		save = &hs
	}
	began := a.n.cfg.Clock.Now()
	a.began.Store(began.UnixNano())
	defer a.began.Store(0)
	if err := a.n.cfg.Log.Append(save, entries, sync); err != nil {
		return err
	}
	took := a.n.cfg.Clock.Now().Sub(began)
	a.n.measures.Appends.Took(took)
	if sync {
		a.n.measures.Syncs.Took(took)
	}
	a.saved = hs
	return nil
}

// hardStateOf rebuilds the hard state that raft spread over a MsgStorageAppend.
func hardStateOf(m *raftpb.Message) raftlog.HardState {
	return raftlog.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
}

// installed is called by the apply loop when the snapshot that the append loop
// waits for is in place: its responses go out and appending goes on.
func (a *appender) installed(m *raftpb.Message, hs raftlog.HardState) {
	a.saved = hs // safe: the append loop stands still until installing is nil
	a.n.deliver([]*raftpb.Message{m})
	a.mu.Lock()
	a.installing = nil
	a.mu.Unlock()
	a.signal()
}

// deliver sends the responses attached to finished storage messages: those for
// this member to the raft loop, the others to the peers.
func (n *Node) deliver(msgs []*raftpb.Message) {
	var own, peers []*raftpb.Message
	for _, m := range msgs {
		if m.GetType() == raftpb.MsgStorageAppend && len(m.GetEntries()) > 0 {
			n.append.underWay.Add(-1)
		}
		for _, r := range m.GetResponses() {
			if r.GetTo() == n.cfg.ID {
				own = append(own, r)
			} else {
				peers = append(peers, r)
			}
		}
	}
	n.inbox.respond(own)
	if len(peers) > 0 {
		n.cfg.Send(peers)
	}
}
