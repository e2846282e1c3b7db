package consensus

import (
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand"
	randv2 "math/rand/v2"
	"slices"
	"strings"
	"testing"
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

var (
	crewSeed  = flag.Int64("crew.seed", 0, "run this one seed; 0 runs -crew.seeds of them")
	crewSeeds = flag.Int("crew.seeds", 60, "how many seeds to run")
	crewSteps = flag.Int("crew.steps", 6_000, "how many steps a seed takes")
)

// crew is a cluster of nodes whose turns are taken by whoever brings something, all in one goroutine and from a seed. Where a node calls
// out, while it takes a turn, writes its log or applies, other things happen before it goes on, as goroutines of its own would do
// them: messages come, clients ask, the other loops work, the node is stopped or its power fails. A loop works only
// when it was told to, so that whoever forgets to tell it is found.
//
// What is checked: all members apply the same at an index; a read that goes on finds applied what was acknowledged, or seen by another
// read, before it began; a node that was stopped neither sends nor applies; nothing waits that nobody was told of; and in the end all
// members of the newest configuration have applied the same and no read waits.
type crew struct {
	t     testing.TB
	rng   *rand.Rand
	clock *clock.Manual
	hands []*hand
	queue []parcel
	cut   map[[2]uint64]bool // from, to: lost

	calm  bool // nothing new is asked, nothing breaks
	loses bool // members are removed, also those without which the others cannot decide: it need not come to rest
	depth int  // of what happens inside of what happens

	applied map[uint64]uint32 // index to a checksum of the entry
	newest  uint64            // index
	config  *raftpb.ConfState // as of newest
	seen    uint64            // the highest index that a client knows of
	asks    []*ask
	names   int // of proposals

	acknowledged, read, inside, installed int // how often
	trace                                 []string
}

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

type parcel struct {
	from, to uint64
	m        *raftpb.Message
}

// ask is a read under way.
type ask struct {
	h     *hand
	n     *Node
	b     *ReadBatch
	floor uint64
	went  bool // it says when it has gone on
}

const (
	crewMax      = 6 // members ever
	crewQueueMax = 1_000
	crewDepthMax = 4
	crewAsksMax  = 30
)

func newCrew(t testing.TB, seed int64) *crew {
	c := &crew{
		t: t, rng: rand.New(rand.NewSource(seed)), clock: clock.NewManual(time.Unix(1_700_000_000, 0)),
		cut: map[[2]uint64]bool{}, applied: map[uint64]uint32{}, config: &raftpb.ConfState{},
	}
	c.loses = seed%2 == 0
	founders := []int{3, 3, 2, 1, 3}[seed%5]
	var voters []uint64
	for i := range founders {
		voters = append(voters, uint64(i+1))
	}
	for _, id := range voters {
		c.hire(id, voters)
	}
	return c
}

func (c *crew) note(format string, args ...any) {
	c.trace = append(c.trace, fmt.Sprintf(format, args...))
	if len(c.trace) > 80 {
		c.trace = c.trace[1:]
	}
}

func (c *crew) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nthe last steps:\n  %s", fmt.Sprintf(format, args...), strings.Join(c.trace, "\n  "))
}

func changeEntry(index, id uint64) *raftpb.Entry {
	data, _ := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(id)}) // plain data
	return &raftpb.Entry{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1), Index: proto.Uint64(index), Data: data}
}

// hire makes a member with an empty disk: a founder with the voters, or one that joins.
func (c *crew) hire(id uint64, voters []uint64) {
	h := &hand{c: c, id: id, fs: vfs.NewCrashableMem(), flushed: map[uint64]flushed{1: {}}}
	c.hands = append(c.hands, h)
	h.openLog()
	hs := raftlog.HardState{}
	var entries []*raftpb.Entry
	for i, v := range voters {
		entries = append(entries, changeEntry(uint64(i+1), v))
		hs = raftlog.HardState{Term: 1, Commit: uint64(i + 1)}
	}
	if err := h.log.Bootstrap(storage.Identity{Format: 1, ClusterID: 9, MemberID: id}, hs, entries, 1); err != nil {
		c.fail("found member %d: %v", id, err)
	}
	h.start()
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

func (h *hand) fatal(err error) { h.c.fail("member %d ended itself: %v", h.id, err) }

// MaybeError implements errorfs.Injector: much may happen while the log is written.
func (h *hand) MaybeError(op errorfs.Op) error {
	if (h.appending || h.applying) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		h.meanwhile()
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

func (c *crew) post(p parcel) {
	if len(c.queue) >= crewQueueMax {
		c.queue = c.queue[1:]
	}
	c.queue = append(c.queue, p)
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

// step is one thing that happens.
func (c *crew) step() {
	switch x := c.rng.Intn(1_000); {
	case x < 350:
		c.deliver()
	case x < 650:
		c.pick().work(c.rng.Intn(3))
	case x < 670:
		c.tick()
	case c.calm:
	case x < 770:
		c.propose(c.pick())
	case x < 900:
		c.begin(c.pick())
	case x < 906:
		c.change()
	case x < 909:
		c.pick().transfer()
	case x < 912:
		c.pick().campaign()
	case x < 914:
		c.pick().stop(c.rng.Intn(2) == 0)
	case x < 917:
		c.isolate()
	case x < 925:
		clear(c.cut)
	case x < 935:
		c.pick().flush()
	case x < 945:
		c.pick().cut()
	}
	c.look()
}

func (c *crew) pick() *hand { return c.hands[c.rng.Intn(len(c.hands))] }

// work lets a loop do what it was told of, as the node's own goroutines would.
func (h *hand) work(loop int) (busy bool) {
	n := h.n
	if n == nil || n.stopping() {
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

func (c *crew) find(id uint64) *hand {
	for _, h := range c.hands {
		if h.id == id {
			return h
		}
	}
	return nil
}

// deliver takes a message out of the queue, mostly an early one.
func (c *crew) deliver() {
	if len(c.queue) == 0 {
		return
	}
	i := 0
	if c.rng.Intn(4) == 0 {
		i = c.rng.Intn(len(c.queue))
	}
	p := c.queue[i]
	c.queue = slices.Delete(c.queue, i, i+1)
	to, isState := c.find(p.to), p.m.GetType() == raftpb.MsgSnap
	lost := to == nil || to.n == nil || c.cut[[2]uint64{p.from, p.to}] || c.rng.Intn(50) == 0
	if from := c.find(p.from); isState && from.n != nil { // its connection tells the sender
		defer from.n.ReportSnapshot(p.to, !lost)
	}
	if lost {
		return
	}
	if c.rng.Intn(50) == 0 && !isState {
		c.post(parcel{p.from, p.to, proto.Clone(p.m).(*raftpb.Message)})
	}
	to.n.Step(p.m)
}

func (c *crew) tick() {
	c.clock.Advance([]time.Duration{time.Millisecond, noticeWait, 100 * time.Millisecond}[c.rng.Intn(3)])
	for _, h := range c.hands {
		if h.n != nil && c.rng.Intn(10) > 0 {
			h.n.Tick()
		}
	}
}

// propose has a client ask for a write, in the goroutine of the client.
func (c *crew) propose(h *hand) {
	if h.n == nil {
		return
	}
	c.names++
	_ = h.n.Propose(&Proposal{ // a refused one is never applied
		Data: fmt.Appendf(nil, "by %d: %d", h.id, c.names), MayTurn: c.rng.Intn(4) > 0, Fail: func(error) { h.meanwhile() },
	})
}

// begin has a client begin a read.
func (c *crew) begin(h *hand) {
	if h.n == nil || h.after != nil || len(c.asks) >= crewAsksMax {
		return
	}
	a := &ask{h: h, n: h.n, floor: c.seen, went: c.rng.Intn(4) > 0}
	switch {
	case h.n.SoleRead():
		a.b, a.went = passed, false
	case a.went:
		a.b = h.n.beginRead(1, h.n.hurry)
	default:
		a.b = h.n.BeginRead()
	}
	c.asks = append(c.asks, a)
}

// look ends reads that may go on.
func (c *crew) look() {
	for i := 0; i < len(c.asks); i++ {
		a := c.asks[i]
		if !decided(a.b) {
			continue
		}
		c.asks = slices.Delete(c.asks, i, i+1)
		i--
		if a.b.Err() == nil && a.h.n == a.n && a.h.after == nil {
			index := a.h.sm.index // what readers see, which may be more than what is said to be applied
			if index < a.floor {
				c.fail("a read of member %d went on at entry %d, and %d was known before it began", a.h.id, index, a.floor)
			}
			c.read++
			c.seen = max(c.seen, a.n.Applied())
		}
		if a.went {
			a.n.wentOn(a.b)
		}
	}
}

// change asks for another configuration.
func (c *crew) change() {
	h := c.pick()
	if h.n == nil {
		return
	}
	cc := &raftpb.ConfChange{NodeId: proto.Uint64(c.pick().id)}
	switch c.rng.Intn(5) {
	case 0, 1:
		if cc.Type = raftpb.ConfChangeRemoveNode.Enum(); !c.loses {
			return
		}
	case 2:
		cc.Type = raftpb.ConfChangeAddNode.Enum() // promotes a learner
		if !slices.Contains(c.config.GetLearners(), cc.GetNodeId()) {
			return
		}
	default:
		if len(c.hands) >= crewMax {
			return
		}
		cc.Type, cc.NodeId = raftpb.ConfChangeAddLearnerNode.Enum(), proto.Uint64(uint64(len(c.hands)+1))
		if c.rng.Intn(3) == 0 {
			cc.Type = raftpb.ConfChangeAddNode.Enum()
		}
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		c.t.Fatal(err)
	}
	c.note("a change at member %d: %v", h.id, cc)
	_ = h.n.Propose(&Proposal{Data: data, ConfChange: true, MayTurn: true}) // the change may be refused
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

func (c *crew) isolate() {
	h, way := c.pick(), c.rng.Intn(3)
	c.note("member %d is cut off (%d)", h.id, way)
	for _, o := range c.hands {
		if o != h && way != 0 {
			c.cut[[2]uint64{o.id, h.id}] = true
		}
		if o != h && way != 1 {
			c.cut[[2]uint64{h.id, o.id}] = true
		}
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
	if h.n == nil || h.ending || h.appending || h.applying {
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
		h.after = h.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: h.c.rng.Intn(3) * 50,
			RNG: randv2.New(randv2.NewPCG(h.c.rng.Uint64(), h.c.rng.Uint64()))})
	}
	h.c.note("member %d ends, its power fails: %v; last %d, applied %d", h.id, power, h.log.LastIndex(), h.sm.index)
	h.n.shut(ErrStopped)
}

// bury ends the nodes that are to be stopped, once nobody is in them, and starts others on their disks.
func (c *crew) bury() {
	for _, h := range c.hands {
		if !h.ending {
			continue
		}
		n, sm := h.n, h.sm
		n.Stop()
		h.ended = true
		if h.after == nil {
			if err := h.log.Close(); err != nil {
				c.fail("close the log of member %d: %v", h.id, err)
			}
			if c.rng.Intn(2) == 0 {
				h.flush()
			}
		}
		// Whoever comes late finds nobody.
		n.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: &h.id, Term: proto.Uint64(1 << 40)})
		if err := n.Propose(&Proposal{MayTurn: true}); !errors.Is(err, ErrStopped) {
			c.fail("member %d takes a proposal after its end: %v", h.id, err)
		}
		if b := n.beginRead(1, n.hurry); !decided(b) || !errors.Is(b.Err(), ErrStopped) {
			c.fail("member %d reads after its end", h.id)
		}
		if n.hurry(); h.sm != sm {
			c.fail("member %d goes on", h.id)
		}
		c.look()
		for _, a := range c.asks {
			if a.n == n {
				c.fail("a read of member %d waits after its end", h.id)
			}
		}
		h.n = nil
		if h.after != nil {
			h.fs = h.after
		}
		h.ending = false
		h.openLog()
		h.start()
	}
}

// join gives those who were added a node.
func (c *crew) join() {
	for _, id := range slices.Concat(c.config.GetVoters(), c.config.GetLearners()) {
		if c.find(id) == nil {
			c.note("member %d joins", id)
			c.hire(id, nil)
		}
	}
}

// rest lets all loops do what they were told of, and checks that nothing waits then.
func (c *crew) rest() {
	for busy := true; busy; {
		busy = false
		for _, h := range c.hands {
			for loop := range 3 {
				busy = h.work(loop) || busy
				c.look()
			}
		}
		c.bury()
	}
	for _, h := range c.hands {
		h.nothingWaits()
	}
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

// run takes random steps.
func (c *crew) run(steps int) {
	for i := range steps {
		c.step()
		c.bury()
		c.join()
		if i%50 == 0 {
			c.rest()
		}
	}
}

// settle mends everything and runs until all members have applied the same and nothing waits.
func (c *crew) settle() {
	clear(c.cut)
	c.calm = true
	for round := range 2_000 {
		if round%4 == 0 {
			c.clock.Advance(100 * time.Millisecond)
			for _, h := range c.hands {
				h.n.Tick()
			}
		}
		for range len(c.queue) {
			c.deliver()
		}
		c.rest()
		c.join()
		if round > 50 && c.settled() {
			return
		}
	}
	text := ""
	for _, h := range c.hands {
		text += fmt.Sprintf("\n  member %d: leader %d, term %d, committed %d, applied %d", h.id, h.n.Leader(), h.n.Term(), h.n.Committed(), h.n.Applied())
	}
	c.fail("it does not settle: %d reads wait, newest is %d, members are %v%s", len(c.asks), c.newest, c.config, text)
}

func (c *crew) settled() bool {
	for _, id := range slices.Concat(c.config.GetVoters(), c.config.GetLearners()) {
		if h := c.find(id); h.n.Applied() != c.newest || h.n.Committed() != c.newest || h.n.Leader() == raft.None {
			return false
		}
	}
	return len(c.asks) == 0
}

// TestTurnsAreTakenByAnybodyAtAnyPoint runs random crews. One seed again:
//
//	go test ./internal/consensus -run TestTurnsAreTakenByAnybodyAtAnyPoint -args -crew.seed=N
func TestTurnsAreTakenByAnybodyAtAnyPoint(t *testing.T) {
	t.Parallel()
	seeds := []int64{*crewSeed}
	if *crewSeed == 0 {
		seeds = seeds[:0]
		for i := range *crewSeeds {
			seeds = append(seeds, int64(i+1))
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			t.Logf("again: go test ./internal/consensus -run TestTurnsAreTakenByAnybodyAtAnyPoint -args -crew.seed=%d -crew.steps=%d", seed, *crewSteps)
			c := newCrew(t, seed)
			c.run(*crewSteps)
			if !c.loses {
				c.settle()
			}
			t.Logf("%d entries, %d acknowledged, %d reads, %d snapshots, %d times something happened meanwhile, members in the end %v",
				c.newest, c.acknowledged, c.read, c.installed, c.inside, c.config)
			for _, h := range c.hands {
				h.stop(false)
				h.n.Stop()
				if err := h.log.Close(); err != nil {
					t.Error(err)
				}
			}
			if !c.loses && (c.acknowledged < 10 || c.read < 10) {
				t.Errorf("%d writes and %d reads: the run shows nothing", c.acknowledged, c.read)
			}
		})
	}
}
