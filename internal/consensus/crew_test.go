package consensus

import (
	"errors"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
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
// them: messages come, clients ask, the other loops work, the node is stopped, its power fails or its disk breaks. A loop works only
// when it was told to, so that whoever forgets to tell it is found; of a node that was stopped it may do so once more, as one that is told of both
// at a time does.
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

	acknowledged, read, inside, installed, failures int // how often
	trace                                           []string
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

func (c *crew) post(p parcel) {
	if len(c.queue) >= crewQueueMax {
		c.queue = c.queue[1:]
	}
	c.queue = append(c.queue, p)
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
	case x < 947:
		c.pick().breakDisk()
	}
	c.look()
}

func (c *crew) pick() *hand { return c.hands[c.rng.Intn(len(c.hands))] }

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

// bury ends the nodes that are to be stopped, once nobody is in them, and starts others on their disks.
func (c *crew) bury() {
	for _, h := range c.hands {
		if !h.ending {
			continue
		}
		n, sm, broken := h.n, h.sm, h.broken
		h.late = true
		for loop := range 3 {
			if c.rng.Intn(2) == 0 {
				h.work(loop)
			}
		}
		h.late = false
		n.Stop()
		h.ended = true
		if broken {
			h.fs = h.mended()
		}
		if h.after == nil {
			if err := h.log.Close(); err != nil && !broken {
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

// longerMax is how often a run that has shown little goes on as long again.
const longerMax = 9

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
			for range longerMax { // where a disk of two breaks early little was done
				if c.loses || c.acknowledged >= 10 && c.read >= 10 {
					break
				}
				c.run(*crewSteps)
			}
			if !c.loses {
				c.settle()
			}
			t.Logf("%d entries, %d acknowledged, %d reads, %d snapshots, %d failures, %d times something happened meanwhile, members in the end %v",
				c.newest, c.acknowledged, c.read, c.installed, c.failures, c.inside, c.config)
			for _, h := range c.hands {
				h.stop(false)
				h.n.Stop()
				if err := h.log.Close(); err != nil && !h.broken {
					t.Error(err)
				}
			}
			if !c.loses && (c.acknowledged < 10 || c.read < 10) {
				t.Errorf("%d writes and %d reads: the run shows nothing", c.acknowledged, c.read)
			}
		})
	}
}
