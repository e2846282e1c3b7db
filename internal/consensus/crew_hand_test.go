package consensus

import (
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	randv2 "math/rand/v2"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// hand is one node and the disk below it.
type hand struct {
	c   *crew
	n   *Node // nil while down
	id  uint64
	fs  *vfs.MemFS
	log *raftlog.Log
	sm  *crewState

	flushed map[uint64]flushed // by generation

	appending, applying bool       // those loops are at work
	ending              bool       // it is to be stopped once nobody is at work in it
	after               *vfs.MemFS // the disk as a power cut has left it; nil without one
	ended               bool       // Stop has returned
	late                bool       // it is stopped, and loops that were woken before they saw that go on
	broken              bool       // the disk takes nothing any more, until the node starts again
}

// crewState is the state of a node. What is left of it is in hand.flushed.
type crewState struct {
	h     *hand
	index uint64
	conf  *raftpb.ConfState

	generation uint64 // one for each state that was received
	received   bool   // raft has taken a snapshot that is not installed yet
}

// flushed is what is left of a state.
type flushed struct {
	index uint64
	conf  *raftpb.ConfState
}

func (h *hand) openLog() {
	log, err := raftlog.Open("log", raftlog.Options{
		Clock:   h.c.clock,
		Storage: storage.Options{FS: errorfs.Wrap(h.fs, h), Logger: slog.New(slog.DiscardHandler), Fatal: h.fatal},
	})
	if err != nil {
		h.c.fail("open the log of member %d: %v", h.id, err)
	}
	h.log = log
}

// fatal is told by the log and by the node. Whoever runs it stops it soon, but not at once.
func (h *hand) fatal(err error) {
	if !h.broken {
		h.c.fail("member %d ended itself: %v", h.id, err)
	}
	if h.ending {
		return
	}
	h.ending = true
	h.c.failures++
	h.c.note("member %d ends itself: %v; last %d, applied %d", h.id, err, h.log.LastIndex(), h.sm.index)
}

// MaybeError implements errorfs.Injector: much may happen while the log is written.
func (h *hand) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	if h.appending || h.applying {
		h.meanwhile()
	}
	if h.broken {
		return errorfs.ErrInjected
	}
	return nil
}

// String implements errorfs.Injector.
func (h *hand) String() string { return "(meanwhile)" }

// crewClock is the crew's clock. A node looks at it with no lock held, so much may happen then.
type crewClock struct {
	*clock.Manual
	h *hand
}

func (c crewClock) Now() time.Time {
	c.h.meanwhile()
	return c.Manual.Now()
}

// start makes the node of what the disk holds, as Start does but for the loops.
func (h *hand) start() {
	c := h.c
	generation := h.log.Mark().Generation
	kept, ok := h.flushed[generation]
	if !ok || h.log.LastIndex() < kept.index || h.log.Mark().Index > kept.index {
		c.fail("the log of member %d has (%d, %d], its state %d %+v", h.id, h.log.Mark().Index, h.log.LastIndex(), generation, kept)
	}
	h.sm = &crewState{h: h, generation: generation, index: kept.index, conf: kept.conf}
	n, err := New(Config{
		ID: h.id, Log: h.log, Machine: h.sm, Applied: h.sm.index, ConfState: h.sm.conf,
		ElectionTicks: 10, HeartbeatTicks: 1, TickInterval: 100 * time.Millisecond, PreVote: true, ReadTimeoutTicks: 40,
		Clock: crewClock{c.clock, h}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Nonce: c.rng.Uint64(),
		Send: h.send, Fatal: h.fatal,
	})
	if err != nil {
		c.fail("member %d does not start: %v", h.id, err)
	}
	h.n, h.ended, h.ending, h.after = n, false, false, nil
	n.started.Store(true)
	n.inbox.signal()
}

// send is called from turns and by who writes the log.
func (h *hand) send(ms []*raftpb.Message) {
	if h.ended {
		h.c.fail("member %d sends %v after its end", h.id, ms)
	}
	h.meanwhile()
	for _, m := range ms {
		if h.after != nil {
			return // its power has failed
		}
		h.c.post(parcel{h.id, m.GetTo(), proto.Clone(m).(*raftpb.Message)})
	}
	h.meanwhile()
}

// Apply implements StateMachine.
func (s *crewState) Apply(entries []*raftpb.Entry) error {
	for _, e := range entries {
		s.apply(e, nil)
	}
	return nil
}

// apply compares an entry with what others have applied, and tells who waits for it.
func (s *crewState) apply(e *raftpb.Entry, cs *raftpb.ConfState) {
	h, c := s.h, s.h.c
	h.meanwhile()
	if h.ended || h.sm != s {
		c.fail("member %d applies entry %d after its end", h.id, e.GetIndex())
	}
	sum := crc32.ChecksumIEEE(fmt.Appendf(nil, "%d %s %x", e.GetTerm(), e.GetType(), e.GetData()))
	if old, ok := c.applied[e.GetIndex()]; ok && old != sum {
		c.fail("member %d applies another entry at %d than others did", h.id, e.GetIndex())
	}
	if e.GetIndex() != s.index+1 {
		c.fail("member %d applies entry %d after %d", h.id, e.GetIndex(), s.index)
	}
	c.applied[e.GetIndex()] = sum
	s.index = e.GetIndex()
	if cs != nil {
		s.conf = cs
	}
	if s.index > c.newest {
		c.newest = s.index
		if cs != nil {
			c.config = cs
		}
	}
	var by, number int
	if k, _ := fmt.Sscanf(string(e.GetData()), "by %d: %d", &by, &number); k == 2 && uint64(by) == h.id && h.after == nil {
		c.acknowledged++
		c.seen = max(c.seen, s.index)
	}
	h.meanwhile()
}

// CheckConfChange implements StateMachine.
func (s *crewState) CheckConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		return nil, err
	}
	if !allowed(s.conf, &cc) {
		cc.NodeId = proto.Uint64(raft.None)
	}
	s.h.meanwhile()
	return &cc, nil
}

// allowed says whether a change is one that the cluster takes: nobody comes back, and somebody has to stay.
func allowed(conf *raftpb.ConfState, cc *raftpb.ConfChange) bool {
	id := cc.GetNodeId()
	voter, learner := slices.Contains(conf.GetVoters(), id), slices.Contains(conf.GetLearners(), id)
	switch cc.GetType() {
	case raftpb.ConfChangeRemoveNode:
		return learner || voter && len(conf.GetVoters()) > 1
	case raftpb.ConfChangeAddLearnerNode:
		return !voter && !learner
	default:
		return !voter
	}
}

// FinishConfChange implements StateMachine.
func (s *crewState) FinishConfChange(e *raftpb.Entry, _ *raftpb.ConfChange, cs *raftpb.ConfState) error {
	s.apply(e, cs)
	return nil
}

// Install implements StateMachine. All states of an index are the same, so what was received is not looked at.
func (s *crewState) Install(snap *raftpb.Snapshot, commit func(generation uint64) error) error {
	h, meta := s.h, snap.GetMetadata()
	if !s.received || meta.GetIndex() <= s.index {
		h.c.fail("member %d installs a snapshot at entry %d after %d, that was taken: %v", h.id, meta.GetIndex(), s.index, s.received)
	}
	h.meanwhile()
	if h.after != nil {
		return nil // its power has failed
	}
	h.flushed[s.generation+1] = flushed{meta.GetIndex(), meta.GetConfState()}
	if err := commit(s.generation + 1); err != nil {
		return err
	}
	h.meanwhile()
	s.generation, s.index, s.conf, s.received = s.generation+1, meta.GetIndex(), meta.GetConfState(), false
	h.c.installed++
	h.meanwhile()
	return nil
}

// SnapshotDecided implements StateMachine.
func (s *crewState) SnapshotDecided(_ uint64, taken bool) { s.received = taken || s.received }

// SendSnapshot implements StateMachine.
func (s *crewState) SendSnapshot(m *raftpb.Message) {
	h := s.h
	h.meanwhile()
	term, err := h.log.Term(s.index)
	if err != nil {
		h.c.fail("member %d: the term of entry %d: %v", h.id, s.index, err)
	}
	m = proto.Clone(m).(*raftpb.Message)
	m.Snapshot.Metadata = &raftpb.SnapshotMetadata{Index: proto.Uint64(s.index), Term: proto.Uint64(term), ConfState: s.conf}
	if h.after == nil {
		h.c.post(parcel{h.id, m.GetTo(), m})
	}
}

// meanwhile lets others do something while a node is at work.
func (h *hand) meanwhile() {
	c := h.c
	if h.n == nil || c.depth >= crewDepthMax || c.rng.Intn(6) > 0 {
		return
	}
	c.depth++
	c.inside++
	for range 1 + c.rng.Intn(3) {
		if c.rng.Intn(3) == 0 { // who is at work is the one that matters
			h.work(c.rng.Intn(3))
		} else {
			c.step()
		}
	}
	c.depth--
}

// work lets a loop do what it was told of, as the node's own goroutines would.
func (h *hand) work(loop int) (busy bool) {
	n := h.n
	if n == nil || n.stopping() && !h.late {
		return false
	}
	told := func(c chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	switch loop {
	case 0:
		if !n.turning.TryLock() {
			return false
		}
		if busy = told(n.inbox.wake); busy {
			for n.Turn() && !n.stopping() {
			}
			h.meanwhile() // what comes now finds that somebody takes turns, who has looked already
		}
		n.turning.Unlock()
	case 1:
		if h.appending || !told(n.append.wake) {
			return false
		}
		h.appending, busy = true, true
		for n.AppendTurn() && !n.stopping() {
		}
		h.appending = false
	default:
		if h.applying || !told(n.apply.wake) {
			return false
		}
		h.applying, busy = true, true
		for n.ApplyTurn() && !n.stopping() {
		}
		h.applying = false
	}
	return busy
}

func (h *hand) transfer() {
	if h.n != nil {
		to := h.c.pick().id
		h.c.note("member %d is asked to hand over to %d", h.id, to)
		h.n.TransferLeader(to)
	}
}

func (h *hand) campaign() {
	if h.n != nil {
		h.c.note("member %d stands for election", h.id)
		h.n.Campaign()
	}
}

// flush makes durable what is applied.
func (h *hand) flush() {
	if h.after == nil {
		h.flushed[h.sm.generation] = flushed{h.sm.index, h.sm.conf}
	}
}

// cut lets the log forget what is durable in the state and what raft does not look for: who is behind needs a snapshot then.
func (h *hand) cut() {
	if h.n == nil || h.ending || h.appending || h.applying || h.broken {
		return // who writes the log has its lock
	}
	if err := h.log.Cut(min(h.flushed[h.sm.generation].index, h.n.Settled())); err != nil {
		h.c.fail("cut the log of member %d: %v", h.id, err)
	}
}

// stop begins to end a node, in the midst of whatever it does: in order, or because its power fails.
func (h *hand) stop(power bool) {
	if h.n == nil || h.ending {
		return
	}
	h.ending = true
	if power {
		h.after = h.lostPower()
	}
	h.c.note("member %d ends, its power fails: %v; last %d, applied %d", h.id, power, h.log.LastIndex(), h.sm.index)
	h.n.shut(ErrStopped)
}

// breakDisk has the next write or sync fail, and all after it.
func (h *hand) breakDisk() {
	if h.n != nil && !h.ending {
		h.c.note("the disk of member %d breaks", h.id)
		h.broken = true
	}
}

// mended is the disk once it works again: as it was, or without some of what was not synced.
func (h *hand) mended() *vfs.MemFS {
	h.broken = false
	if h.c.rng.Intn(2) == 0 {
		return h.fs
	}
	return h.lostPower()
}

// lostPower is the disk as a power cut leaves it.
func (h *hand) lostPower() *vfs.MemFS {
	return h.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: h.c.rng.Intn(3) * 50,
		RNG:                 randv2.New(randv2.NewPCG(h.c.rng.Uint64(), h.c.rng.Uint64())),
	})
}

// nothingWaits checks a node whose loops do nothing because nobody has told them to.
func (h *hand) nothingWaits() {
	n := h.n
	if n == nil || n.stopping() {
		return
	}
	b := &n.inbox
	switch {
	case len(b.messages)+len(b.responses)+len(b.calls)+b.ticks > 0:
		h.c.fail("member %d: %d messages, %d responses, %d calls and %d ticks wait, and nobody was told", h.id,
			len(b.messages), len(b.responses), len(b.calls), b.ticks)
	case len(b.urgent)+len(b.proposals) > 0 && len(n.held) == 0 && n.proposalsDue():
		h.c.fail("member %d: %d proposals wait, and nobody was told", h.id, len(b.proposals))
	case b.gathering != nil && n.lead.Load() != raft.None && n.reads.due(b) && n.mayAsk():
		h.c.fail("member %d: reads wait, and nobody was told", h.id)
	case len(n.append.queue) > 0 && n.append.installing == nil:
		h.c.fail("member %d: %d writes wait, and nobody was told", h.id, len(n.append.queue))
	case len(n.apply.queue) > 0 || n.apply.current != nil && n.apply.pending == nil:
		h.c.fail("member %d: entries wait to be applied, and nobody was told", h.id)
	case n.append.installing != nil:
		h.c.fail("member %d: a snapshot is being installed for ever", h.id)
	case n.append.underWay.Load() != 0:
		h.c.fail("member %d: %d writes are under way for ever", h.id, n.append.underWay.Load())
	}
	for _, w := range n.reads.waiting {
		if w.index <= n.Applied() {
			h.c.fail("member %d: reads wait for entry %d, %d is applied", h.id, w.index, n.Applied())
		}
	}
}
