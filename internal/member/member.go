package member

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/takeover"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// Config describes a member. Fields without a stated default are required.
type Config struct {
	Name string
	// DataDir and WALDir are directories; an empty WALDir puts the log below DataDir.
	DataDir, WALDir string
	// FS is where both stand; nil is the operating system's.
	FS storage.FS
	// Etcd is where etcd may have left a member on the operating system's filesystem, which a new member then becomes; nil is
	// nowhere.
	Etcd *takeover.Place

	// InitialCluster and Token found the cluster. They are looked at only when the
	// member is bootstrapped.
	InitialCluster cluster.InitialCluster
	Token          string
	// Joining makes the member one of a cluster that runs, in place of InitialCluster. It is looked at only when the member
	// is bootstrapped.
	Joining *Joining
	// ClientURLs are published to the other members.
	ClientURLs []string

	// TickInterval is raft's unit of time; the two numbers below count in it.
	TickInterval                  time.Duration
	ElectionTicks, HeartbeatTicks int
	PreVote                       bool
	// ElectionTickAdvance shortens the wait for the first election once enough others are connected, as ActiveSince says.
	ElectionTickAdvance bool

	// RequestTimeout ends proposals and linearizable reads that nobody decides.
	RequestTimeout time.Duration
	// MaxRequestBytes bounds the encoded log entry of one request.
	MaxRequestBytes uint64
	// QuotaBytes bounds what CheckSpace lets pass; 0 or less is no bound.
	QuotaBytes int64
	// SnapshotCatchUpEntries are kept in the log below the durable state.
	SnapshotCatchUpEntries uint64
	// KeepLogForAbsent keeps more in the log while another member is away or behind, as far as that costs it less than a snapshot.
	KeepLogForAbsent bool
	// CatchUpBytes bounds, with KeepLogForAbsent, what SnapshotCatchUpEntries take; 0 is 32 MiB.
	CatchUpBytes uint64
	// SlowApply is how long a group of entries may take to apply before it is logged; 0 is never.
	SlowApply time.Duration
	// LeaseCheckpoint, LeaseCheckpointPersist and FastLeaseKeepAlive are etcd's feature gates: a leader tells the others
	// now and then how much is left of leases; that counts after restarts, too, as it does anyway from the cluster version 3.6
	// on; and a known lease is renewed before all that was committed when the request came is applied.
	LeaseCheckpoint, LeaseCheckpointPersist, FastLeaseKeepAlive bool
	// AutoCompaction compacts the history as time goes by.
	AutoCompaction AutoCompaction
	// KeepCompactHashes lets each compaction make a hash of the content, however large it is; see mvcc.Store.KeepHashes.
	KeepCompactHashes bool
	// CorruptCheckTime is how often the leader compares all members' keys, CompactHashCheckTime how often it compares the hashes
	// that compactions made, for which KeepCompactHashes belongs to all members; 0 is never.
	CorruptCheckTime, CompactHashCheckTime time.Duration
	// MaxLearners bounds the learners of the cluster; 0 allows none. It must be the same for all members.
	MaxLearners int
	// StrictReconfigCheck refuses changes of the membership that could cost the quorum.
	StrictReconfigCheck bool
	// AuthToken says what tokens are: "simple", also when it is empty, or "jwt," and its options as for --auth-token.
	AuthToken string
	// AuthTokenTTL is how long a simple token is good for that nobody uses; 0 is DefaultAuthTokenTTL.
	AuthTokenTTL time.Duration
	// BcryptCost is the cost of hashing a password; one that bcrypt does not have is its default.
	BcryptCost int
	// NoSync gives up durability (--unsafe-no-fsync).
	NoSync bool

	Clock  clock.Clock
	Logger *slog.Logger
	// Send passes raft messages to other members; nil when there are none.
	Send func([]*raftpb.Message)
	// ActiveSince says since when another member is connected, zero when it is not; nil when there are no others.
	ActiveSince func(id uint64) time.Time
	// SendSnapshot passes a MsgSnap and the state that belongs to it on. It must
	// read state to its end or close it, and then report to ReportSnapshot, without
	// blocking the caller. nil when there are no other members.
	SendSnapshot func(m *raftpb.Message, state io.ReadCloser)
	// MembersChanged is told, from the apply loop and once by Start, that the membership may have changed; it must not wait
	// for anything. nil when there is no transport.
	MembersChanged func(*cluster.Membership)
	// HTTP is how other members are asked what only they know; nil when there are none.
	HTTP http.RoundTripper
	// Fatal is told, at most once, why the member cannot go on. Nothing is
	// acknowledged after it.
	Fatal func(error)
}

// watchOverhead is what a watch response may have over MaxRequestBytes before it is cut into fragments.
const watchOverhead = 512 << 10

// Member is one member. Its methods may be called from any goroutine unless
// they say otherwise.
type Member struct {
	cfg      Config
	lock     io.Closer
	log      *raftlog.Log
	gen      atomic.Pointer[generation]
	node     *consensus.Node
	hub      *watch.Hub
	identity storage.Identity
	others   *peer.Client // nil when there are none
	learner  atomic.Bool

	ids       idSource
	waiters   *waiters
	compactor compactor
	durable   durability
	quota     quota
	incoming  incoming
	departure departure
	lessor    lessor
	logins    logins

	measures *Measures
	tallies  tallies // of the apply loop

	maintenance maintenance
	versions    versions
	corruption  corruption
	comparison  comparison
	rebuild     rebuild
	states      chan struct{} // one element while the state is sent to a member that rebuilds its own

	fatalOnce sync.Once
	stopOnce  sync.Once
	stopErr   error          // of Stop
	stop      chan struct{}  // closed when Stop begins
	gone      atomic.Bool    // the last generation is closed, or about to be
	replaced  sync.WaitGroup // generations that are not closed yet although others took their place
	ready     chan struct{}
	wg        sync.WaitGroup
}

// Open opens the member's directories, or founds them when they are new, and
// prepares the consensus. Nothing runs yet: call Start, or step the node and the
// background tasks.
func Open(cfg Config) (*Member, error) {
	m := &Member{
		cfg: cfg, waiters: newWaiters(), measures: newMeasures(),
		stop: make(chan struct{}), ready: make(chan struct{}),
	}
	if m.cfg.Send == nil {
		m.cfg.Send = func([]*raftpb.Message) {}
	}
	if m.cfg.CatchUpBytes == 0 {
		m.cfg.CatchUpBytes = catchUpBytes
	}
	m.lessor.init(m)
	m.departure.init()
	m.durable.flushed = make(chan struct{}, 1) // a state of an earlier format is flushed while it is opened
	if err := m.logins.init(m); err != nil {
		return nil, err
	}
	if err := m.openStores(); err != nil {
		return nil, errors.Join(err, m.closeStores())
	}
	m.hub = watch.NewHub(watch.Options{
		View:      m.View,
		Revision:  func() int64 { return m.Store().Revision() },
		Compacted: func() int64 { return m.Store().CompactRevision() },
		// Where etcd cuts responses into fragments.
		ResponseBytes: int(m.cfg.MaxRequestBytes) + watchOverhead,
	})
	if err := errors.Join(m.rebuild.init(m), m.openNode()); err != nil {
		m.hub.Close()
		return nil, errors.Join(err, m.closeStores())
	}
	if cfg.HTTP != nil {
		m.others = &peer.Client{HTTP: cfg.HTTP, Cluster: m.identity.ClusterID}
	}
	m.ids.init(m.identity.MemberID, cfg.Clock.Now())
	m.compactor.init(m)
	m.maintenance.init(m)
	m.versions.init(m)
	m.quota.init(m)
	m.corruption.m, m.comparison.m, m.states = m, m, make(chan struct{}, 1)
	return m, nil
}

func (m *Member) openNode() error {
	g := m.gen.Load()
	conf, err := g.confState()
	if err != nil {
		return err
	}
	applied, _ := g.store.Applied()
	m.durable.init(m, applied)
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	m.node, err = consensus.New(consensus.Config{
		ID: m.identity.MemberID, Log: m.log, Machine: &machine{m: m},
		Applied: applied, ConfState: conf,
		ElectionTicks: m.cfg.ElectionTicks, HeartbeatTicks: m.cfg.HeartbeatTicks,
		TickInterval: m.cfg.TickInterval, PreVote: m.cfg.PreVote,
		ReadTimeoutTicks: int(m.cfg.RequestTimeout / m.cfg.TickInterval),
		Clock:            m.cfg.Clock, Logger: m.cfg.Logger,
		Nonce: binary.BigEndian.Uint64(nonce[:]),
		Send:  m.cfg.Send, Fatal: m.fatal, Acceptable: apply.Acceptable,
	})
	return err
}

// Start runs the member until Stop.
func (m *Member) Start() {
	m.tellMembers(m.gen.Load())
	m.log.KeepSealed()
	m.node.Start()
	for _, loop := range []func(){m.compactor.run, m.durable.run, m.quota.run, m.sweep, m.lessor.run, m.autoCompact, m.publish, m.versions.run, m.sweepTokens, m.hasten, m.missLeader,
		m.corruption.runPeriodic, m.corruption.runCompact, m.comparison.run, m.rebuild.yield} {
		m.wg.Go(loop)
	}
}

// Ready is closed when requests may be served: everything committed before this
// start is applied, and the member has told the cluster its name and addresses.
func (m *Member) Ready() <-chan struct{} { return m.ready }

// sweep ends proposals that waited too long, and all once the consensus has failed; when it is stopped, Stop does that.
func (m *Member) sweep() {
	ticker := m.cfg.Clock.NewTicker(m.cfg.RequestTimeout / 8)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C():
			m.waiters.expire(now, ErrTimeout)
		case <-m.node.Done():
			m.waiters.end()
			return
		case <-m.stop:
			return
		}
	}
}

// Stop ends the member: what waits fails with ErrStopped, the state is flushed so
// that the next start replays nothing, both databases are closed. What is asked of the
// member from then on fails with ErrStopped, too. Stop waits for views that are open and states on
// their way to other members: whoever runs the services and the transport ends those first.
// Further calls wait for the first one and return what it returns.
func (m *Member) Stop() error {
	m.stopOnce.Do(func() {
		close(m.stop)
		m.compactor.cancel()
		m.node.Stop()
		m.waiters.end()
		m.maintenance.close()
		m.hub.Close()
		m.wg.Wait()
		m.replaced.Wait() // they close their databases below the directory that is locked
		m.stopErr = errors.Join(m.durable.rest(), m.rebuild.adopt(), m.closeStores())
	})
	return m.stopErr
}

// fatal reports the first error that the member cannot survive.
func (m *Member) fatal(err error) {
	m.fatalOnce.Do(func() { m.cfg.Fatal(err) })
}

func (m *Member) self() cluster.ID { return cluster.ID(m.identity.MemberID) }

// ID returns the member's id.
func (m *Member) ID() uint64 { return m.identity.MemberID }

// ClusterID returns the cluster's id.
func (m *Member) ClusterID() uint64 { return m.identity.ClusterID }

// Header returns what every response header says besides the revision.
func (m *Member) Header() (clusterID, memberID, term uint64) {
	return m.identity.ClusterID, m.identity.MemberID, m.node.Term()
}

// ToReplay is how many entries this start had to apply of those that were committed before it: none after a Stop.
func (m *Member) ToReplay() uint64 { return m.node.ToReplay() }

// HasLeader says whether a leader is known.
func (m *Member) HasLeader() bool { return m.node.Leader() != 0 }

// Members returns the membership as applied here. It is immutable.
func (m *Member) Members() *cluster.Membership { return m.gen.Load().members }

// Node gives the simulator the three loops to step.
func (m *Member) Node() *consensus.Node { return m.node }

// waitReplayed returns false when the member stops first.
func (m *Member) waitReplayed(ctx context.Context) bool {
	select {
	case <-m.node.Replayed():
		return true
	case <-ctx.Done():
		return false
	case <-m.stop:
		return false
	case <-m.node.Done():
		return false
	}
}

// Hub returns what tells watchers of the member's changes.
func (m *Member) Hub() *watch.Hub { return m.hub }

// Log returns the member's log, for reading.
func (m *Member) Log() *raftlog.Log { return m.log }

// Store returns the present generation's store.
func (m *Member) Store() *mvcc.Store { return m.gen.Load().store }

// LeaseTable returns the present generation's leases, for reading.
func (m *Member) LeaseTable() *lease.Table { return m.leases() }

// ReserveCache makes the block cache smaller by about bytes until release is called, as storage.DB.ReserveCache does.
// When another state takes the place of the present one, its cache is whole.
func (m *Member) ReserveCache(bytes int64) (release func()) {
	return m.gen.Load().db.ReserveCache(bytes)
}

// Flush makes everything applied so far durable in the state.
func (m *Member) Flush() error { return m.held(func(g *generation) error { return g.db.Flush() }) }

// CutLog cuts the log as far as it may be.
func (m *Member) CutLog() error { return m.durable.cut() }

// CompactStep compacts one slice, and reports whether more is left.
func (m *Member) CompactStep() (more bool, err error) {
	m.compactor.notify()
	return m.compactor.step()
}

// LeaseStep ends the leases that are due, and does whatever else the leader does for leases by the clock, without waiting.
func (m *Member) LeaseStep() { m.lessor.step(m.cfg.Clock.Now()) }
