package peer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// streamKind is what a stream carries.
type streamKind int

const (
	streamApp streamKind = iota
	streamMessage
	streamKinds
)

// path is where a stream is opened, before the opener's id.
func (k streamKind) path() string {
	if k == streamApp {
		return "/raft/stream/msgapp/"
	}
	return "/raft/stream/message/"
}

func (k streamKind) encoder() encoder {
	if k == streamApp {
		return &appEncoder{}
	}
	return &messageCodec{}
}

// posters is how many posts to one remote are under way at a time, as in etcd.
const posters = 4

// remote is another member: its addresses, the queues of what goes to it, and the goroutines that read its streams and
// post to it.
type remote struct {
	t    *Transport
	id   uint64
	log  *slog.Logger
	urls addresses

	measures *Measures

	streams [streamKinds]*outbox // taken from by the handlers of its GETs
	posts   *outbox

	ctx context.Context // ends when the remote is forgotten
	end context.CancelFunc

	mu    sync.Mutex
	up    [streamKinds]bool // streams that this member reads
	since time.Time         // when the first of those came up; zero when none is up
}

func newRemote(t *Transport, id uint64, urls []string) *remote {
	r := &remote{t: t, id: id, log: t.cfg.Logger.With("remote", hex(id)), posts: newOutbox(postsMax, postBytesMax), measures: newMeasures(id)}
	r.urls.set(urls)
	r.ctx, r.end = context.WithCancel(t.ctx)
	for k := range streamKinds {
		r.streams[k] = newOutbox(outboxMax, outboxBytesMax)
		t.wg.Go(func() { r.read(k) })
	}
	r.posts.open(nil)
	for range posters {
		t.wg.Go(r.postAll)
	}
	t.wg.Go(r.probeAll)
	return r
}

// send queues a message for the best way that is open. One that comes alone may be written at once.
func (r *remote) send(m *raftpb.Message, alone bool) {
	ways := [...]*outbox{r.streams[streamApp], r.streams[streamMessage], r.posts}
	for i, box := range ways {
		if i == int(streamApp) && m.GetType() != raftpb.MsgApp {
			continue
		}
		open, taken := box.put(m, alone)
		if taken {
			return
		}
		if open {
			break // it is slow: another way would only bring things out of order
		}
	}
	r.lost()
}

// receive gives a message from outside to raft. Those that only this member itself may make are thrown away, and snapshots,
// which come by a request of their own with their state.
func (t *Transport) receive(m *raftpb.Message) {
	switch {
	case m.GetTo() != t.id.Member, m.GetFrom() == t.id.Member,
		m.GetType() == raftpb.MsgSnap, raft.IsLocalMsg(m.GetType()), raft.IsLocalMsgTarget(m.GetFrom()):
		t.cfg.Logger.Debug("throwing a message away", "type", m.GetType().String(), "from", hex(m.GetFrom()), "to", hex(m.GetTo()))
	default:
		t.raft.Step(m)
	}
}

func (r *remote) activeSince() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.since
}

// setUp notes that a stream came up or went down.
func (r *remote) setUp(k streamKind, up bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up[k] = up
	switch any := r.up[streamApp] || r.up[streamMessage]; {
	case !any:
		if !r.since.IsZero() {
			r.measures.Disconnects.Inc()
		}
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = r.t.cfg.Clock.Now()
	}
	r.measures.up.Store(!r.since.IsZero())
}

// request makes a request to the address base.
func (r *remote) request(ctx context.Context, method, base, path string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, base+path, nil)
	if err != nil {
		return nil, err
	}
	r.t.id.introduce(req.Header, r.t.cfg.PeerURLs)
	return req, nil
}

// refusal returns what the remote means by a status that is not the one hoped for. This member ends for good once it is told of its
// removal, so that counts only from a member of this cluster, which says that it is one in every answer: whatever stands between the two may
// forbid things, too. And members of etcd forbid what is meant for another member than they are.
func (r *remote) refusal(resp *http.Response) error {
	text := bodyText(resp)
	id := resp.Header.Get(headerCluster)
	if id != "" && id != hex(r.t.id.Cluster) {
		return ErrClusterMismatch
	}
	switch {
	case id != "" && resp.StatusCode == http.StatusGone,
		id != "" && resp.StatusCode == http.StatusForbidden && resp.Request.Method == http.MethodPost && !strings.Contains(text, etcdMismatch):
		r.t.toldRemoved(r.id)
		return ErrRemoved
	case resp.StatusCode == http.StatusNotFound:
		return errUnknownHere
	case resp.StatusCode == http.StatusPreconditionFailed && strings.Contains(text, ErrIncompatible.Error()):
		return ErrIncompatible
	case resp.StatusCode == http.StatusPreconditionFailed && strings.Contains(text, ErrClusterMismatch.Error()):
		return ErrClusterMismatch
	}
	return errors.New(resp.Status + ": " + text)
}

// etcdMismatch is what a member of etcd says of a message for another member.
const etcdMismatch = "mismatch member"

// wait waits for d; false when the remote is forgotten first.
func (r *remote) wait(d time.Duration) bool {
	timer := r.t.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-r.ctx.Done():
		return false
	}
}

// addresses are where a remote is to be found; one is in use until it fails.
type addresses struct {
	mu   sync.Mutex
	all  []string
	next int
}

func (a *addresses) set(urls []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.all, urls) {
		a.all, a.next = slices.Clone(urls), 0
	}
}

// current returns the address in use, "" when there is none.
func (a *addresses) current() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) == 0 {
		return ""
	}
	return a.all[a.next]
}

// failed makes the next address the one in use, unless url is not in use any more.
func (a *addresses) failed(url string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) > 0 && a.all[a.next] == url {
		a.next = (a.next + 1) % len(a.all)
	}
}
