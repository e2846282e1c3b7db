package peer

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// DefaultTimeout is that of etcd for reading from a stream and for writing into one, and the least that it takes.
const DefaultTimeout = 5 * time.Second

// Times of the protocol.
const (
	// heartbeatEvery is how often the writer of a stream says that it is there. It does not follow this member's own limits: the
	// reader's count, which are DefaultTimeout at the least.
	heartbeatEvery = DefaultTimeout / 3
	// redialWait is the least time between two attempts to open a stream.
	redialWait = 100 * time.Millisecond
	// complainEvery is how often the same failure is logged.
	complainEvery = 30 * time.Second
)

// strangersMax bounds the remotes that are known from their own requests alone: members that this one, which is catching up,
// has not heard of in the log yet.
const strangersMax = 32

// Raft is what a transport tells. All methods are called from many goroutines and do not block.
type Raft interface {
	// Step takes a message from a remote.
	Step(m *raftpb.Message)
	// ReportUnreachable says that messages to a remote were lost.
	ReportUnreachable(id uint64)
	// ReportSnapshot says how sending a snapshot to a remote ended.
	ReportSnapshot(id uint64, ok bool)
}

// Config describes a transport. Fields without a stated default are required.
type Config struct {
	// HTTP makes the requests to remotes. It must bound the time of dials and handshakes, and not that of answers.
	HTTP http.RoundTripper
	// PeerURLs are this member's own addresses, which remotes are told.
	PeerURLs []string
	// ReadTimeout is how long a stream may be silent, WriteTimeout how long a write into one may take; 0 is DefaultTimeout.
	ReadTimeout, WriteTimeout time.Duration

	Clock  clock.Clock
	Logger *slog.Logger
	// Removed is called, at most once and from any goroutine, when a remote says that this member was removed.
	Removed func()
}

// Transport carries the messages of one member. Its methods may be called from any goroutine.
type Transport struct {
	cfg     Config
	id      Identity
	raft    Raft
	answers Answers

	ctx context.Context // ends with Close
	end context.CancelFunc

	mu      sync.Mutex                         // guards changes of remotes
	remotes atomic.Pointer[map[uint64]*remote] // never nil, each immutable
	members atomic.Pointer[cluster.Membership] // nil until the first SetMembers
	told    sync.Once                          // Removed was called
	wg      sync.WaitGroup
}

// New returns a transport that knows nobody and drops what it is given, until Start.
func New(cfg Config) *Transport {
	t := &Transport{cfg: cfg}
	t.cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, DefaultTimeout)
	t.cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, DefaultTimeout)
	t.ctx, t.end = context.WithCancel(context.Background())
	t.remotes.Store(&map[uint64]*remote{})
	return t
}

// Start makes the transport one of the member id. It must return before anything else than Send, SendSnapshot and ActiveSince is
// called, and is called once.
func (t *Transport) Start(id Identity, raft Raft, a Answers) {
	t.id, t.raft, t.answers = id, raft, a
}

// Close ends all streams and requests and returns when they have ended. Snapshots on their way are reported as failed.
func (t *Transport) Close() {
	t.end()
	t.mu.Lock() // nothing is added after this
	for _, r := range *t.remotes.Load() {
		r.end()
	}
	t.remotes.Store(&map[uint64]*remote{})
	t.mu.Unlock()
	t.wg.Wait()
}

// Send passes messages on to their targets, or drops them. It does not block. The messages must not be changed after.
func (t *Transport) Send(ms []*raftpb.Message) {
	remotes := *t.remotes.Load()
	for i, m := range ms {
		// One that is not known yet will be asked again by raft.
		if r := remotes[m.GetTo()]; r != nil {
			r.send(m, alone(ms, i))
		}
	}
}

// aloneMax is among how many messages one is looked for that goes alone.
const aloneMax = 8

// alone says whether none of the other messages goes where one of them goes.
func alone(ms []*raftpb.Message, i int) bool {
	if len(ms) > aloneMax {
		return false
	}
	for j, m := range ms {
		if j != i && m.GetTo() == ms[i].GetTo() {
			return false
		}
	}
	return true
}

// SendSnapshot passes on a MsgSnap and its state, which it closes. It does not block. A state that is also a Database can be sent to
// etcd's members, too.
func (t *Transport) SendSnapshot(m *raftpb.Message, state io.ReadCloser) {
	r := (*t.remotes.Load())[m.GetTo()]
	if r != nil && r.goSnapshot(m, state) {
		return
	}
	_ = state.Close() // a reader's close has nothing to tell
	if t.raft != nil {
		t.raft.ReportSnapshot(m.GetTo(), false)
	}
}

// SetMembers makes the members of a membership the remotes, with the addresses they have now, and forgets those that it says
// are removed. The transport keeps the membership and asks it who is removed.
func (t *Transport) SetMembers(ms *cluster.Membership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members.Store(ms)
	next := maps.Clone(*t.remotes.Load())
	for _, x := range ms.Members() {
		t.addLocked(next, uint64(x.ID), x.PeerURLs)
	}
	for id, r := range next {
		if ms.IsRemoved(cluster.ID(id)) {
			delete(next, id)
			t.cfg.Logger.Info("forgetting a removed member", "member", hex(id))
			r.end()
		}
	}
	t.remotes.Store(&next)
}

// AddRemote makes a remote known that is not in this member's own membership yet, or gives it other addresses.
func (t *Transport) AddRemote(id uint64, urls []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isRemoved(id) {
		return
	}
	next := maps.Clone(*t.remotes.Load())
	t.addLocked(next, id, urls)
	t.remotes.Store(&next)
}

// meet makes the unknown sender of a request known, within a bound: it is in the cluster by what it says, and this member
// may only be behind.
func (t *Transport) meet(id uint64, urls []string) {
	if len(urls) == 0 || id == t.id.Member || len(*t.remotes.Load()) >= strangersMax {
		return
	}
	t.AddRemote(id, urls)
}

func (t *Transport) addLocked(remotes map[uint64]*remote, id uint64, urls []string) {
	if id == t.id.Member || id == 0 || t.ctx.Err() != nil {
		return
	}
	if r := remotes[id]; r != nil {
		r.urls.set(urls)
		return
	}
	remotes[id] = newRemote(t, id, slices.Clone(urls))
}

// isRemoved says whether the cluster, as far as this member knows, has removed a member.
func (t *Transport) isRemoved(id uint64) bool {
	ms := t.members.Load()
	return ms != nil && ms.IsRemoved(cluster.ID(id))
}

// ActiveSince says since when something of a remote is connected, the zero time when nothing is.
func (t *Transport) ActiveSince(id uint64) time.Time {
	if r := (*t.remotes.Load())[id]; r != nil {
		return r.activeSince()
	}
	return time.Time{}
}

// toldRemoved is called when a remote says that this member was removed.
func (t *Transport) toldRemoved(by uint64) {
	t.told.Do(func() {
		t.cfg.Logger.Warn("another member says that this one was removed from the cluster", "by", hex(by))
		t.cfg.Removed()
	})
}
