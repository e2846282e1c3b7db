package consensus

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// urgency is how a commit index is to be written that is only known. It is a hint for restarts.
type urgency int

const (
	notDue    urgency = iota
	due               // with a write of its own, if need be
	dueSynced         // and a sync
)

// appender is the append loop: it makes entries and hard states durable, in
// order, everything that waits in one batch and one sync.
type appender struct {
	n *Node

	mu         sync.Mutex
	queue      []*raftpb.Message // guarded by mu
	installing *raftpb.Message   // guarded by mu; the loop stands still until apply has installed it
	busy       bool              // guarded by mu; what was taken last may not be done
	known      raftlog.HardState // guarded by mu; as of the last message that was taken
	due        urgency           // guarded by mu; of a commit index that is only known

	wake chan struct{}

	underWay atomic.Int64 // messages with entries that are queued or being written

	saved raftlog.HardState         // what the log holds; changed by the append loop alone, with mu
	sure  raftlog.HardState         // what it holds durably; changed with saved
	began atomic.Pointer[time.Time] // when the write in hand began; nil when there is none
}

func (a *appender) init(n *Node) {
	a.n, a.wake = n, make(chan struct{}, 1)
	a.saved = n.cfg.Log.HardState() // whose commit index may not be durable yet
	a.known = a.saved
}

// put gives the loop a message. One that asks for no write, while nothing is to be written, is done at once.
func (a *appender) put(m *raftpb.Message) {
	if len(m.GetEntries()) > 0 {
		a.underWay.Add(1)
	}
	a.mu.Lock()
	if a.isLightLocked(m) {
		a.learnLocked(m)
		a.mu.Unlock()
		a.n.respond([]*raftpb.Message{m}) // the turn that put it here is followed by another one
		return
	}
	a.queue = append(a.queue, m)
	a.mu.Unlock()
	a.signal()
}

// isLightLocked says whether all that m waits for is written.
func (a *appender) isLightLocked(m *raftpb.Message) bool {
	if a.busy || a.installing != nil || len(a.queue) > 0 || len(m.GetEntries()) > 0 || !raft.IsEmptySnap(m.GetSnapshot()) {
		return false
	}
	return m.Term == nil || m.GetTerm() == a.known.Term && m.GetVote() == a.known.Vote
}

func (a *appender) learnLocked(m *raftpb.Message) {
	if m.Term != nil {
		a.known = hardStateOf(m)
	}
}

// tick lets a commit index that is only known be written. It is a hint for restarts, and costs a write of its own when nothing else
// is written.
func (a *appender) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known != a.saved {
		a.due = max(a.due, due)
		a.signal()
	}
}

// changed lets the commit index be written, and synced, that the configuration now rests on. Without it a restart knows the one before, in
// which it may need the votes of those who have gone for good.
func (a *appender) changed() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = dueSynced // it may be among what waits in queue
	a.signal()
}

func (a *appender) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take returns the messages up to, not including, the first one with a snapshot;
// that one alone when it is the first. known is the hard state with them, and when whether it is to be
// written although they may not need it.
func (a *appender) take() (msgs []*raftpb.Message, known raftlog.HardState, when urgency) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.installing != nil {
		return nil, a.known, notDue
	}
	end := len(a.queue)
	for i, m := range a.queue {
		if !raft.IsEmptySnap(m.GetSnapshot()) {
			end = max(i, 1)
			break
		}
	}
	msgs = a.queue[:end:end]
	a.queue = a.queue[end:]
	if len(msgs) == 1 && !raft.IsEmptySnap(msgs[0].GetSnapshot()) {
		a.installing = msgs[0]
		return msgs, a.known, notDue
	}
	for _, m := range msgs {
		a.learnLocked(m)
	}
	when, a.due = a.due, notDue
	a.busy = len(msgs) > 0 || when != notDue
	return msgs, a.known, when
}

// AppendTurn writes everything that waits for the log and then delivers the
// responses. It reports whether there was anything to do. Only one goroutine may
// call it. Behind a write that failed it does nothing: what asks for no write would be
// answered although it answers for that one, too.
func (n *Node) AppendTurn() bool {
	if n.stopping() {
		return false
	}
	a := &n.append
	msgs, known, when := a.take()
	if len(msgs) == 0 && when == notDue {
		return false
	}
	if len(msgs) > 0 && !raft.IsEmptySnap(msgs[0].GetSnapshot()) {
		// From here on the apply loop has the word; see installed.
		n.apply.putInstall(msgs[0])
		return true
	}
	if err := a.write(msgs, known, when); err != nil {
		n.fatal(fmt.Errorf("append to the raft log: %w", err))
		return false
	}
	n.deliver(msgs)
	return true
}

// write stores the entries of msgs and the hard state with them. It syncs when entries, term or vote change. A commit
// index alone is only a hint for restarts: it is written with what follows, or when it is due.
func (a *appender) write(msgs []*raftpb.Message, known raftlog.HardState, when urgency) error {
	var entries []*raftpb.Entry
	if len(msgs) == 1 {
		entries = msgs[0].GetEntries()
	} else {
		for _, m := range msgs {
			entries = append(entries, m.GetEntries()...)
		}
	}
	sync := len(entries) > 0 || known.Term != a.saved.Term || known.Vote != a.saved.Vote || when == dueSynced && known != a.sure
	if !sync && (when == notDue || known == a.saved) {
		return nil
	}
	var save *raftlog.HardState
	if known != a.saved || len(entries) == 0 { // one that was written without a sync is written again
		save = &known
	}
	began := a.n.cfg.Clock.Now()
	a.began.Store(&began)
	defer a.began.Store(nil)
	if err := a.n.cfg.Log.Append(save, entries, sync); err != nil {
		return err
	}
	took := a.n.cfg.Clock.Now().Sub(began)
	a.n.measures.Appends.Took(took)
	if sync {
		a.n.measures.Syncs.Took(took)
	}
	a.mu.Lock()
	a.saved = known
	if sync {
		a.sure = known
	}
	a.mu.Unlock()
	return nil
}

// finish writes the commit index that is only known. REQUIRES: the loops have ended, without a failure.
func (a *appender) finish() error { return a.write(nil, a.known, due) }

// hardState is the newest of which all is written that was given out with it or before.
func (a *appender) hardState() raftlog.HardState {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known
}

// hardStateOf rebuilds the hard state that raft spread over a MsgStorageAppend.
func hardStateOf(m *raftpb.Message) raftlog.HardState {
	return raftlog.HardState{Term: m.GetTerm(), Vote: m.GetVote(), Commit: m.GetCommit()}
}

// installed is called by the apply loop when the snapshot that the append loop
// waits for is in place: its responses go out and appending goes on.
func (a *appender) installed(m *raftpb.Message, hs raftlog.HardState) {
	a.n.deliver([]*raftpb.Message{m})
	a.mu.Lock()
	a.installing, a.known, a.saved, a.sure = nil, hs, hs, hs
	a.mu.Unlock()
	a.signal()
}

// deliver sends the responses attached to finished storage messages: those for
// this member to the raft loop, the others to the peers.
func (n *Node) deliver(msgs []*raftpb.Message) {
	if n.respond(msgs) {
		n.hurry()
	}
}

// respond is deliver without a turn for what the raft loop has to be told. It reports whether there is any.
func (n *Node) respond(msgs []*raftpb.Message) bool {
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
	if len(peers) > 0 {
		n.cfg.Send(peers)
	}
	if len(own) > 0 {
		n.inbox.respond(own)
	}
	return len(own) > 0
}
