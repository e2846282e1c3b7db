package consensus

import (
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// task is one item for the apply loop: committed entries, a snapshot to
// install, or a snapshot to send.
type task struct {
	apply   *raftpb.Message
	install *raftpb.Message
	send    *raftpb.Message
	at      time.Time // since when it waits
}

// applier is the apply loop: it gives committed entries to the state machine in
// order. A configuration change interrupts it until the raft loop has answered
// with the new configuration.
type applier struct {
	n *Node

	mu    sync.Mutex
	queue []task     // guarded by mu
	conf  *confState // guarded by mu; raft's answer to the change that waits

	wake chan struct{}

	// Apply loop only: what is left of the task in hand.
	current *raftpb.Message
	rest    []*raftpb.Entry
	pending *raftpb.ConfChange // asked of the raft loop; the entry is rest[0]
	since   time.Time          // when current was committed
}

type confState struct{ cs *raftpb.ConfState }

func (a *applier) init(n *Node) { a.n, a.wake = n, make(chan struct{}, 1) }

func (a *applier) put(m *raftpb.Message)               { a.putTask(task{apply: m}) }
func (a *applier) putInstall(m *raftpb.Message)        { a.putTask(task{install: m}) }
func (a *applier) putSnapshotToSend(m *raftpb.Message) { a.putTask(task{send: m}) }

func (a *applier) putTask(t task) {
	t.at = a.n.cfg.Clock.Now()
	a.mu.Lock()
	a.queue = append(a.queue, t)
	a.mu.Unlock()
	a.signal()
}

func (a *applier) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *applier) next() (task, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return task{}, false
	}
	t := a.queue[0]
	a.queue = a.queue[1:]
	return t, true
}

// ApplyTurn does one piece of the apply loop's work: a run of normal entries, one
// half of a configuration change, or a snapshot. It reports whether it should be
// called again at once. Only one goroutine may call it.
func (n *Node) ApplyTurn() bool {
	if n.stopping() {
		return false
	}
	again, err := n.apply.turn()
	if err != nil {
		n.fatal(err)
		return false
	}
	return again
}

func (a *applier) turn() (again bool, err error) {
	if a.pending != nil {
		return a.finishConfChange()
	}
	if a.current != nil {
		return true, a.applySome()
	}
	t, ok := a.next()
	if !ok {
		return false, nil
	}
	switch {
	case t.apply != nil:
		a.current, a.rest, a.since = t.apply, t.apply.GetEntries(), t.at
		return true, a.applySome()
	case t.install != nil:
		return true, a.install(t.install)
	default:
		a.n.cfg.Machine.SendSnapshot(t.send)
		return true, nil
	}
}

// applySome applies the run of normal entries at the head of rest, or starts the
// configuration change there, or ends the task.
func (a *applier) applySome() error {
	run := 0
	for run < len(a.rest) && a.rest[run].GetType() == raftpb.EntryNormal {
		run++
	}
	switch {
	case run > 0:
		if err := a.n.cfg.Machine.Apply(a.rest[:run:run]); err != nil {
			return fmt.Errorf("apply entries %d to %d: %w",
				a.rest[0].GetIndex(), a.rest[run-1].GetIndex(), err)
		}
		a.advance(run)
	case len(a.rest) > 0:
		return a.startConfChange(a.rest[0])
	}
	if len(a.rest) == 0 {
		m := a.current
		a.current = nil
		a.n.deliver([]*raftpb.Message{m})
	}
	return nil
}

// advance notes that the first n entries of rest are applied.
func (a *applier) advance(n int) {
	last := a.rest[n-1].GetIndex()
	a.rest = a.rest[n:]
	a.n.setApplied(last)
}

// CommittedAt is when the entries that are being applied were found to be committed. Only Machine.Apply may call it.
func (n *Node) CommittedAt() time.Time { return n.apply.since }

func (n *Node) setApplied(index uint64) {
	before := n.applied.Swap(index)
	if before < n.replayTo && index >= n.replayTo {
		close(n.replayed)
	}
}

func (a *applier) startConfChange(e *raftpb.Entry) error {
	if e.GetType() != raftpb.EntryConfChange {
		return fmt.Errorf("entry %d has type %s, which this release does not know", e.GetIndex(), e.GetType())
	}
	cc, err := a.n.cfg.Machine.CheckConfChange(e)
	if err != nil {
		return fmt.Errorf("check configuration change %d: %w", e.GetIndex(), err)
	}
	a.pending = cc
	a.n.call(func(rn *raft.RawNode) {
		cs := rn.ApplyConfChange(cc)
		a.n.store.setConf(cs)
		a.n.append.changed()
		a.mu.Lock()
		a.conf = &confState{cs}
		a.mu.Unlock()
		a.signal()
	})
	return nil
}

// finishConfChange stores the change once raft has answered.
func (a *applier) finishConfChange() (again bool, err error) {
	a.mu.Lock()
	conf := a.conf
	a.conf = nil
	a.mu.Unlock()
	if conf == nil {
		return false, nil
	}
	cc := a.pending
	a.pending = nil
	e := a.rest[0]
	if err := a.n.cfg.Machine.FinishConfChange(e, cc, conf.cs); err != nil {
		return false, fmt.Errorf("apply configuration change %d: %w", e.GetIndex(), err)
	}
	a.advance(1)
	return true, a.applySome()
}

// install puts a received snapshot in place while the append loop stands still.
func (a *applier) install(m *raftpb.Message) error {
	n := a.n
	meta := m.GetSnapshot().GetMetadata()
	hs := n.append.hardState()
	if m.Term != nil {
		hs = hardStateOf(m)
	}
	hs.Commit = max(hs.Commit, meta.GetIndex())
	// raft takes a snapshot only above its commit index, so this would be a bug.
	if meta.GetIndex() <= n.applied.Load() {
		return fmt.Errorf("install the snapshot at index %d: already applied %d", meta.GetIndex(), n.applied.Load())
	}
	commit := func(generation uint64) error {
		mark := raftlog.Mark{Index: meta.GetIndex(), Term: meta.GetTerm(), Generation: generation}
		return n.cfg.Log.Install(mark, hs, m.GetEntries())
	}
	if err := n.cfg.Machine.Install(m.GetSnapshot(), commit); err != nil {
		return fmt.Errorf("install the snapshot at index %d: %w", meta.GetIndex(), err)
	}
	n.store.setConf(meta.GetConfState())
	n.setApplied(meta.GetIndex())
	n.append.installed(m, hs)
	return nil
}
