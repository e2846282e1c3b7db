package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

var (
	// ErrStopped is returned for what is asked of a node that has stopped, and for
	// what still waited when it did.
	ErrStopped = errors.New("consensus: stopped")
	// ErrTooManyRequests is returned when a proposal is refused because too much
	// waits already: proposals not yet taken by raft, or entries not yet applied.
	ErrTooManyRequests = errors.New("consensus: too many requests")
	// ErrDropped is returned when raft refused to take a proposal, as it does while
	// leadership is being transferred. The proposal had no effect.
	ErrDropped = errors.New("consensus: raft proposal dropped")
	// ErrReadTimeout is returned to linearizable reads that no leader confirmed
	// within Config.ReadTimeoutTicks.
	ErrReadTimeout = errors.New("consensus: linearizable read timed out")
	// ErrLeaderChanged is returned to linearizable reads that were waiting when the
	// leader changed. They may be tried again.
	ErrLeaderChanged = errors.New("consensus: leader changed")
)

// StateMachine is what committed entries are applied to. All methods but
// SnapshotDecided are called from the apply loop, one at a time. An error is fatal: the node stops.
type StateMachine interface {
	// Apply applies consecutive normal entries. It owns neither the slice nor the
	// entries. When it returns, their effects are visible to readers.
	Apply(entries []*raftpb.Entry) error
	// CheckConfChange decides a configuration entry before raft sees it. A refused
	// change comes back with NodeId raft.None: raft then treats it as no change.
	CheckConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error)
	// FinishConfChange stores a configuration entry's effect together with the
	// configuration that raft made of it.
	FinishConfChange(e *raftpb.Entry, cc *raftpb.ConfChange, cs *raftpb.ConfState) error
	// Install replaces the whole state by the received snapshot. commit must be
	// called once the new state is durable; it makes the log name it (the commit
	// point). Install returns after the swap.
	Install(snap *raftpb.Snapshot, commit func(generation uint64) error) error
	// SnapshotDecided is called from the raft loop for every MsgSnap given to Step: taken
	// says whether Install will be called for it. It must not block.
	SnapshotDecided(index uint64, taken bool)
	// SendSnapshot is called for a MsgSnap that raft wants to send. The machine
	// replaces its metadata by those of the state as it is now and passes message
	// and state on. It must not wait for the receiver.
	SendSnapshot(m *raftpb.Message)
}

// Config describes a node. All fields without a stated default are required.
type Config struct {
	ID      uint64
	Log     *raftlog.Log
	Machine StateMachine
	// Applied is the durable applied index of the state, ConfState the configuration
	// found with it. Replay starts above Applied.
	Applied   uint64
	ConfState *raftpb.ConfState

	// ElectionTicks and HeartbeatTicks count in TickInterval.
	ElectionTicks  int
	HeartbeatTicks int
	TickInterval   time.Duration
	PreVote        bool
	// ReadTimeoutTicks bounds how long a linearizable read waits to be confirmed.
	ReadTimeoutTicks int

	Clock  clock.Clock
	Logger *slog.Logger
	// Nonce makes ReadIndex contexts unique over members and restarts; any random
	// number.
	Nonce uint64
	// Send passes messages on to other members. It is called from the raft and the
	// append loop, must not block and may drop. Messages for one member keep their order.
	Send func([]*raftpb.Message)
	// Fatal is told why the node cannot go on. It is called at most once.
	Fatal func(error)
	// Acceptable returns why an entry that another member proposes could not be applied, as far as that is in the entry alone; nil lets all of
	// them through. It is called from any goroutine.
	Acceptable func(*raftpb.Entry) error

	uncommittedBytes uint64 // uncommittedBytesMax; tests have less
}

// Bounds of a node. They are the same for every member and not configurable.
const (
	// sizePerMsgMax bounds an append message to a follower, as in etcd.
	sizePerMsgMax = 512 << 10
	// inflightMsgsMax bounds append messages on their way to one follower.
	inflightMsgsMax = 512
	// inflightBytesMax bounds their bytes, which are read from the log in one go for a follower that is far behind. It is well below what
	// waits for a connection (peer.outboxBytesMax): what does not fit there is lost, and read again.
	inflightBytesMax = 32 << 20
	// committedBytesMax bounds entries handed to apply and not yet applied.
	committedBytesMax = 16 << 20
	// uncommittedBytesMax bounds what a leader holds that is not applied; what comes above it is held back, and then stays in the queue.
	uncommittedBytesMax = 64 << 20
	// proposalsMax and proposalBytesMax bound what waits for the raft loop; as much may be held back besides.
	proposalsMax     = 20_000
	proposalBytesMax = 64 << 20
	// gatherMax and gatherBytesMax bound what proposals wait for while the log is written: above them they go on at once, so that
	// large ones are on their way to the followers meanwhile.
	gatherMax      = 4_096
	gatherBytesMax = 512 << 10
	// urgentMax bounds the urgent ones among them, which are counted apart.
	urgentMax = 8_192
	// messagesMax bounds messages from peers that wait for the raft loop; further
	// ones are dropped, as a network may.
	messagesMax = 4_096
	// unappliedMax is etcd's bound on committed entries that are not applied yet:
	// above it new proposals are refused.
	unappliedMax = 5_000
)

// Node is one member's part in the consensus.
//
// Propose, ReadBarrier, Step, Tick, Campaign, TransferLeader, Status and
// Applied may be called from any goroutine.
type Node struct {
	cfg   Config
	rn    *raft.RawNode
	store *logStorage

	inbox   inbox
	append  appender
	apply   applier
	reads   reads
	changes changes

	measures   *Measures
	leaderless leaderless
	heartbeats heartbeats
	stalled    stalled
	notices    notices
	matches    matches

	lead      atomic.Uint64
	leadSince atomic.Pointer[time.Time] // when lead last became another member; nil when it never did
	term      atomic.Uint64
	state     atomic.Uint64
	committed atomic.Uint64
	sole      atomic.Bool // reads need nobody's word (sole.go)
	applied   atomic.Uint64
	settled   atomic.Uint64 // what raft itself knows to be applied

	held          []*Proposal // raft loop only: what raft had no room for, in order
	snapshotTaken uint64      // raft loop only: index of the snapshot handed out in this turn
	servedTerm    uint64      // raft loop only: a term in which this leader has committed an entry

	replayTo uint64 // entries up to here were committed before this start
	toReplay uint64 // how many of them were not applied then
	replayed chan struct{}

	leadMu      sync.Mutex
	leadChanged chan struct{} // closed and replaced when lead changes

	started  atomic.Bool
	turning  sync.Mutex // held by who takes turns, when started
	crowd    crowd
	stopOnce sync.Once
	stop     chan struct{}
	stopErr  error // written before stop is closed
	wg       sync.WaitGroup
}

// New makes a node from what its log and state hold. Nothing runs until Start,
// or until the caller steps the three loops itself.
func New(cfg Config) (*Node, error) {
	n := &Node{
		cfg: cfg, replayed: make(chan struct{}), stop: make(chan struct{}),
		leadChanged: make(chan struct{}), measures: newMeasures(), leaderless: leaderless{cfg.Clock.Now()},
	}
	n.store = &logStorage{log: cfg.Log, conf: cfg.ConfState, applied: cfg.Applied, now: n}
	n.inbox.init()
	if cfg.uncommittedBytes == 0 {
		cfg.uncommittedBytes = uncommittedBytesMax
		n.cfg.uncommittedBytes = uncommittedBytesMax
	}
	n.append.init(n)
	n.apply.init(n)
	n.notices.n = n
	n.reads.prefix, n.reads.timeoutTicks, n.reads.measures = cfg.Nonce, cfg.ReadTimeoutTicks, n.measures
	n.reads.crowd = &n.crowd
	n.applied.Store(cfg.Applied)
	n.settled.Store(cfg.Applied)
	cfg.Log.Settled(cfg.Applied)

	// Of the log it reads the term of the last entry alone, which is in memory since the log was opened: a disk that cannot be read is no panic here.
	rn, err := raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              cfg.ElectionTicks,
		HeartbeatTick:             cfg.HeartbeatTicks,
		Storage:                   n.store,
		Applied:                   cfg.Applied,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             sizePerMsgMax,
		MaxCommittedSizePerReady:  committedBytesMax,
		MaxUncommittedEntriesSize: cfg.uncommittedBytes,
		MaxInflightMsgs:           inflightMsgsMax,
		MaxInflightBytes:          inflightBytesMax,
		CheckQuorum:               true,
		PreVote:                   cfg.PreVote,
		Logger:                    raftLogger{cfg.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("consensus: start raft: %w", err)
	}
	n.rn = rn
	st := rn.BasicStatus()
	n.term.Store(st.HardState.GetTerm())
	n.committed.Store(st.HardState.GetCommit())
	n.replayTo = st.HardState.GetCommit()
	n.toReplay = n.replayTo - min(n.applied.Load(), n.replayTo)
	if n.applied.Load() >= n.replayTo {
		close(n.replayed)
	}
	return n, nil
}

// Start runs the three loops and the ticker until Stop.
func (n *Node) Start() {
	n.started.Store(true)
	for _, loop := range []func(){n.runRaft, n.runAppend, n.runApply} {
		n.wg.Go(loop)
	}
}

func (n *Node) runRaft() {
	ticker := n.cfg.Clock.NewTicker(n.cfg.TickInterval)
	defer ticker.Stop()
	defer func() {
		n.turning.Lock()
		n.reads.failAll(&n.inbox, ErrStopped)
		n.turning.Unlock()
	}()
	n.inbox.signal()
	for {
		select {
		case <-n.inbox.wake:
			runtime.Gosched() // whoever can run may have more for this turn
		case <-ticker.C():
			n.Tick()
		case <-n.stop:
			return
		}
		n.turning.Lock()
		for n.Turn() && !n.stopping() {
		}
		n.turning.Unlock()
	}
}

func (n *Node) runAppend() {
	for {
		select {
		case <-n.append.wake:
			for n.AppendTurn() {
				if n.stopping() {
					return
				}
			}
		case <-n.stop:
			return
		}
	}
}

func (n *Node) runApply() {
	for {
		select {
		case <-n.apply.wake:
			for n.ApplyTurn() {
				if n.stopping() {
					return
				}
			}
		case <-n.stop:
			return
		}
	}
}

func (n *Node) stopping() bool {
	select {
	case <-n.stop:
		return true
	default:
		return false
	}
}

// Stop ends the loops and fails what waits with ErrStopped. It returns when they
// have ended; log and state are then no longer used by the node. It does not
// close them.
func (n *Node) Stop() {
	n.shut(ErrStopped)
	n.wg.Wait()
	n.turning.Lock() // then whoever takes a turn of his own has ended it, and nobody begins one
	n.notices.close()
	n.turning.Unlock()
	n.failWaiting(ErrStopped)
	if errors.Is(n.stopErr, ErrStopped) {
		if err := n.append.finish(); err != nil {
			n.cfg.Logger.Warn("cannot write the commit index", "error", err)
		}
	}
}

func (n *Node) shut(err error) {
	n.stopOnce.Do(func() {
		n.stopErr = err
		close(n.stop)
	})
}

// fatal stops the node for good. The caller must not deliver anything after it.
func (n *Node) fatal(err error) {
	first := false
	n.stopOnce.Do(func() {
		first = true
		n.stopErr = err
		close(n.stop)
	})
	if first {
		n.cfg.Fatal(err)
	}
}

// failWaiting ends proposals and reads that no loop will serve any more.
func (n *Node) failWaiting(err error) {
	in := n.inbox.take(true)
	for _, p := range slices.Concat(n.held, in.urgent, in.proposals) {
		p.fail(err)
	}
	n.held = nil
	n.changes.failAll(err)
	n.reads.failAll(&n.inbox, err)
}

// Done is closed when the node has stopped or failed.
func (n *Node) Done() <-chan struct{} { return n.stop }

// Replayed is closed once every entry that was committed before this start is
// applied. Nothing may be read from the state before.
func (n *Node) Replayed() <-chan struct{} { return n.replayed }

// Applied returns the index of the last applied entry.
func (n *Node) Applied() uint64 { return n.applied.Load() }

// Settled returns the last applied index that raft has taken note of, which may be behind Applied. The log must not be
// cut above it: raft looks through everything that it takes for unapplied before it stands for election.
func (n *Node) Settled() uint64 { return n.settled.Load() }

// Committed returns the highest index known to be committed.
func (n *Node) Committed() uint64 { return n.committed.Load() }

// ToReplay is how many entries this start had to apply of those that were committed before it.
func (n *Node) ToReplay() uint64 { return n.toReplay }

// Term returns the current term.
func (n *Node) Term() uint64 { return n.term.Load() }

// Leader returns the leader's id as far as known, or 0.
func (n *Node) Leader() uint64 { return n.lead.Load() }

// LeaderSince returns when this member last noticed a new leader, the Unix epoch when there was none yet.
func (n *Node) LeaderSince() time.Time {
	if since := n.leadSince.Load(); since != nil {
		return *since
	}
	return time.Unix(0, 0)
}

// IsLeader says whether this member is the leader, as far as it knows.
func (n *Node) IsLeader() bool { return n.lead.Load() == n.cfg.ID }

// Leads says whether this member is the leader, as far as it knows, and in which term. To be sure, ask it before and after
// a read (ReadBatch.Confirmed).
func (n *Node) Leads() (term uint64, ok bool) {
	term = n.Term()
	return term, n.IsLeader() && n.Term() == term
}

// SyncStalled says whether a write to the log has been under way for longer than an election timeout. A leader in that
// state may be deposed any moment, and what it decides may come late: it should decide nothing by the clock.
func (n *Node) SyncStalled() bool {
	since := n.append.began.Load()
	if since == nil {
		return false
	}
	return n.cfg.Clock.Now().Sub(*since) > time.Duration(n.cfg.ElectionTicks)*n.cfg.TickInterval
}

// LeaderChanged returns a channel that is closed at the next change of leader.
func (n *Node) LeaderChanged() <-chan struct{} {
	n.leadMu.Lock()
	defer n.leadMu.Unlock()
	return n.leadChanged
}

// Tick advances raft's clock by one tick at the next turn.
func (n *Node) Tick() {
	n.inbox.mu.Lock()
	n.inbox.ticks++
	n.inbox.mu.Unlock()
	n.inbox.signal()
}

// Step takes a message from another member, and may do a turn of the raft loop's work: the caller holds no lock, unless it is a MsgSnap. It
// never blocks; above a bound
// messages are dropped, but for a MsgSnap: the state machine waits for SnapshotDecided.
func (n *Node) Step(m *raftpb.Message) {
	switch {
	case m.GetType() == raftpb.MsgProp:
		n.takePassedOn(m)
		return
	case !sound(m):
		n.cfg.Logger.Debug("throwing a message away that no member sends", "type", m.GetType().String(), "from", hex(m.GetFrom()))
		return
	}
	n.inbox.mu.Lock()
	if len(n.inbox.messages) < messagesMax || m.GetType() == raftpb.MsgSnap {
		n.inbox.messages = append(n.inbox.messages, m)
	}
	n.inbox.mu.Unlock()
	if len(m.GetEntries()) >= crowdMin || m.GetType() == raftpb.MsgSnap {
		n.inbox.signal()
		return
	}
	n.hurry()
}

// Campaign makes the member stand for election at the next turn.
func (n *Node) Campaign() {
	n.call(func(rn *raft.RawNode) { _ = rn.Campaign() })
}

// TransferLeader asks raft to hand leadership to another voter.
func (n *Node) TransferLeader(to uint64) {
	n.call(func(rn *raft.RawNode) { rn.TransferLeader(to) })
}

// ReportUnreachable tells raft that a message to a member was lost.
func (n *Node) ReportUnreachable(id uint64) {
	n.call(func(rn *raft.RawNode) { rn.ReportUnreachable(id) })
}

// ReportSnapshot tells raft how sending a snapshot ended. It must be called for
// every MsgSnap passed to StateMachine.SendSnapshot.
func (n *Node) ReportSnapshot(id uint64, ok bool) {
	status := raft.SnapshotFinish
	if !ok {
		status = raft.SnapshotFailure
	}
	n.call(func(rn *raft.RawNode) { rn.ReportSnapshot(id, status) })
}

// call runs f on the raft loop at its next turn.
func (n *Node) call(f func(*raft.RawNode)) {
	n.inbox.mu.Lock()
	n.inbox.calls = append(n.inbox.calls, f)
	n.inbox.mu.Unlock()
	n.inbox.signal()
}

// ReadBarrier returns once everything that was committed in the cluster when it
// was called is applied here: a read of the state after it is linearizable. It
// fails with ErrLeaderChanged, ErrReadTimeout, ErrStopped or the context's error.
func (n *Node) ReadBarrier(ctx context.Context) error {
	if n.SoleRead() {
		return nil
	}
	b := n.beginRead(1, n.hurry)
	defer n.wentOn(b)
	select {
	case <-b.Done():
		return b.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wentOn notes that a reader of the batch has gone on.
func (n *Node) wentOn(b *ReadBatch) {
	if b.readers.Add(-1) == 0 && n.reads.behind.Swap(false) {
		n.inbox.signal()
	}
}

// BeginRead joins the linearizable reads that wait for the next ReadIndex, without
// waiting itself.
func (n *Node) BeginRead() *ReadBatch {
	if n.SoleRead() {
		return passed
	}
	return n.beginRead(0, n.inbox.signal)
}

// beginRead joins the reads that gather as so many readers, 0 or 1, that say when they have gone on. With turn the first of them sees to
// it that they get one.
func (n *Node) beginRead(readers int64, turn func()) *ReadBatch {
	b, fresh := n.reads.join(&n.inbox, readers)
	if fresh && (n.reads.ended.Load() || n.stopping()) { // nobody else may look at it any more
		n.reads.failGathering(&n.inbox, ErrStopped)
	}
	if fresh {
		turn()
	}
	return b
}

// EndReads fails with ErrStopped the linearizable reads that wait, and those to come. It is for a member that was removed: nobody tells it any
// more what is committed, and its reads would wait for that until their clients give up.
func (n *Node) EndReads() {
	n.reads.ended.Store(true)
	n.call(func(*raft.RawNode) { n.reads.failAll(&n.inbox, ErrStopped) })
}

// readContext is 8 bytes of nonce and an 8-byte counter.
func readContext(nonce, counter uint64) []byte {
	b := make([]byte, 16)
	binary.BigEndian.PutUint64(b, nonce)
	binary.BigEndian.PutUint64(b[8:], counter)
	return b
}
