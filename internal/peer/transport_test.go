package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const patience = 2 * time.Minute

// site is a member as its transport sees it.
type site struct {
	*Transport
	id          uint64
	server      *httptest.Server
	stepped     chan *raftpb.Message
	unreachable chan uint64
	snapshots   chan bool
	received    chan string
	removed     chan struct{}
}

func (s *site) Step(m *raftpb.Message)           { s.stepped <- m }
func (s *site) ReportSnapshot(_ uint64, ok bool) { s.snapshots <- ok }
func (s *site) ReportUnreachable(id uint64) {
	select {
	case s.unreachable <- id:
	default:
	}
}

const testCluster = 0xc1

func newSite(t *testing.T, id, clusterID uint64) *site {
	t.Helper()
	return newSiteOf(t, id, clusterID, written{lines: true})
}

// written is how a site's streams are written.
type written struct {
	lines bool // past the HTTP server, in the clear also by who sends
	tls   bool
	wrap  func(net.Listener) net.Listener // below the encryption, nil for no other one
}

func newSiteOf(t *testing.T, id, clusterID uint64, how written) *site {
	t.Helper()
	s := &site{
		id: id, stepped: make(chan *raftpb.Message, 100_000), unreachable: make(chan uint64, 1),
		snapshots: make(chan bool, 10), received: make(chan string, 10), removed: make(chan struct{}),
	}
	var h http.Handler
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	url := "http://" + s.server.Listener.Addr().String()
	if how.tls {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	if how.wrap != nil {
		s.server.Listener = how.wrap(s.server.Listener)
	}
	s.Transport = New(Config{
		HTTP:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // a test's own server
		PeerURLs: []string{url}, Clock: clock.Real(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Removed: func() { close(s.removed) },
	})
	s.Start(Identity{Member: id, Cluster: clusterID}, s, s.answers())
	h = s.Handler()
	if how.lines {
		s.server.Config.ConnContext = s.ConnContext
	}
	if how.tls {
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	t.Cleanup(func() {
		s.Transport.Close()
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

func (s *site) answers() Answers {
	take := func(kind string) func(*raftpb.Message, io.Reader) error {
		return func(m *raftpb.Message, r io.Reader) error {
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			s.received <- fmt.Sprintf("%s %d %s%s", kind, m.GetSnapshot().GetMetadata().GetIndex(), m.GetSnapshot().GetData(), b)
			return nil
		}
	}
	return Answers{
		ReceiveSnapshot: take("state"), ReceiveDatabase: take("database"),
		Versions: func() Versions { return Versions{"3.7.1", "3.7.0", "3.7.0"} },
		RenewLease: func(_ context.Context, id int64) (int64, error) {
			if id != 7 {
				return 0, &Refusal{http.StatusNotFound, "lease not found"}
			}
			return 30, nil
		},
		TimeToLive: func(_ context.Context, id int64, keys bool) (LeaseStatus, error) {
			return LeaseStatus{ID: id, Granted: 30, Remaining: 20, Keys: [][]byte{[]byte("k")}}, nil
		},
		Promote:          func(context.Context, uint64) ([]cluster.Member, error) { return nil, errors.New("no") },
		HashKV:           func(_ context.Context, rev int64) (HashKV, error) { return HashKV{Hash: 5, HashRevision: rev}, nil },
		DowngradeEnabled: func(context.Context) (bool, error) { return true, nil },
	}
}

// join makes two sites know each other.
func join(a, b *site) {
	a.AddRemote(b.id, []string{b.server.URL})
	b.AddRemote(a.id, []string{a.server.URL})
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(patience):
		t.Fatalf("no %s came", what)
		panic("unreachable")
	}
}

func message(typ raftpb.MessageType, from, to *site, index uint64) *raftpb.Message {
	return &raftpb.Message{
		Type: typ.Enum(), From: proto.Uint64(from.id), To: proto.Uint64(to.id), Term: proto.Uint64(1),
		LogTerm: proto.Uint64(1), Index: proto.Uint64(index), Commit: proto.Uint64(0),
	}
}

// connected waits until both streams from a to b are up.
func connected(t *testing.T, a, b *site) {
	t.Helper()
	eventually(t, func() bool { return (*a.remotes.Load())[b.id] != nil })
	r := (*a.remotes.Load())[b.id]
	for _, box := range r.streams {
		eventually(t, func() bool {
			box.mu.Lock()
			defer box.mu.Unlock()
			return box.taker != nil
		})
	}
	eventually(t, func() bool { return !b.ActiveSince(a.id).IsZero() })
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("it did not come to pass")
		}
	}
}

func TestMessagesGoBothWaysInOrder(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]written{
		"written by who sends":              {lines: true},
		"encrypted, written by goroutines":  {lines: true, tls: true},
		"written by the HTTP server":        {},
		"encrypted, and by the HTTP server": {tls: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			goBothWays(t, newSiteOf(t, 1, testCluster, how), newSiteOf(t, 2, testCluster, how))
		})
	}
}

func goBothWays(t *testing.T, a, b *site) {
	t.Helper()
	join(a, b)
	connected(t, a, b)
	connected(t, b, a)
	const n = 2000
	for i := range uint64(n) {
		m := message(raftpb.MsgApp, a, b, i)
		m.Entries = []*raftpb.Entry{{Term: proto.Uint64(1), Index: proto.Uint64(i + 1), Data: make([]byte, 300)}}
		a.Send([]*raftpb.Message{m})
		b.Send([]*raftpb.Message{message(raftpb.MsgAppResp, b, a, i)})
	}
	for i := range uint64(n) {
		if m := receive(t, b.stepped, "append"); m.GetIndex() != i || len(m.GetEntries()) != 1 || m.GetTerm() != 1 {
			t.Fatalf("append %d: got %v", i, m)
		}
		if m := receive(t, a.stepped, "answer"); m.GetIndex() != i {
			t.Fatalf("answer %d: got %v", i, m)
		}
	}
}

func TestWithoutStreamsMessagesArePosted(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	a.cfg.PeerURLs = nil
	a.AddRemote(b.id, []string{"http://127.0.0.1:1", b.server.URL}) // b cannot open streams: it does not know a, nor its addresses
	eventually(t, func() bool {
		a.Send([]*raftpb.Message{message(raftpb.MsgApp, a, b, 5)})
		return len(b.stepped) > 0
	})
}

func TestASenderThatIsNotKnownBecomesSo(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	a.AddRemote(b.id, []string{b.server.URL})
	connected(t, b, a)
	b.Send([]*raftpb.Message{message(raftpb.MsgHeartbeatResp, b, a, 0)})
	receive(t, a.stepped, "message")
}

func TestADeadRemoteDelaysNobody(t *testing.T) {
	t.Parallel()
	a, b, dead := newSite(t, 1, testCluster), newSite(t, 2, testCluster), newSite(t, 3, testCluster)
	hang := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(func() { close(hang); hanging.CloseClientConnections(); hanging.Close() })
	join(a, b)
	a.AddRemote(dead.id, []string{hanging.URL})
	connected(t, a, b)
	big := make([]byte, 1<<20)
	for i := range uint64(500) {
		m := message(raftpb.MsgApp, a, dead, i)
		m.Entries = []*raftpb.Entry{{Term: proto.Uint64(1), Index: proto.Uint64(i + 1), Data: big}}
		a.Send([]*raftpb.Message{m, message(raftpb.MsgHeartbeat, a, b, i)})
	}
	for range 500 {
		receive(t, b.stepped, "heartbeat")
	}
	if id := receive(t, a.unreachable, "report"); id != dead.id {
		t.Errorf("unreachable is %d", id)
	}
}

func TestWhatOnlyAMemberItselfMaySayIsThrownAway(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	join(a, b)
	connected(t, a, b)
	local := message(raftpb.MsgStorageAppendResp, a, b, 0)
	local.From = proto.Uint64(^uint64(0)) // raft's append thread
	a.Send([]*raftpb.Message{
		message(raftpb.MsgHup, a, b, 0), message(raftpb.MsgSnap, a, b, 0), message(raftpb.MsgUnreachable, a, b, 0), local,
		message(raftpb.MsgHeartbeat, a, b, 1),
	})
	if m := receive(t, b.stepped, "message"); m.GetType() != raftpb.MsgHeartbeat {
		t.Errorf("got %v", m)
	}
}

func TestAnotherClusterIsRefused(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster+1)
	join(a, b)
	var c complaint
	if err := (*a.remotes.Load())[b.id].readStream(streamApp, &c); !errors.Is(err, ErrClusterMismatch) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Client().RenewLease(t.Context(), []string{b.server.URL}, 7); err != nil {
		t.Logf("a lease of another cluster: %v", err) // etcd does not look there
	}
}

func TestARemovedMemberIsToldSo(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	b.SetMembers(membership(t, a.id))
	a.AddRemote(b.id, []string{b.server.URL})
	receive(t, a.removed, "word")
	b.AddRemote(a.id, []string{a.server.URL})
	if (*b.remotes.Load())[a.id] != nil {
		t.Error("a removed member is a remote again")
	}
}

// TestNotEachRefusalTellsOfARemoval: a member that takes one for that ends for good.
func TestNotEachRefusalTellsOfARemoval(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, cluster, text string
		status                int
		removed               bool
	}{
		"a stream, from a member":                  {http.MethodGet, "c1", "removed member", http.StatusGone, true},
		"a post, from a member":                    {http.MethodPost, "c1", "removed member", http.StatusForbidden, true},
		"a post, from a member of etcd":            {http.MethodPost, "c1", `{"message":"cannot process message from removed member"}`, 403, true},
		"a post, from another member of etcd":      {http.MethodPost, "c1", `{"message":"cannot process message to mismatch member"}`, 403, false},
		"a post, from a member of another cluster": {http.MethodPost, "c2", "removed member", http.StatusForbidden, false},
		"a stream, from somebody in between":       {http.MethodGet, "", "gone", http.StatusGone, false},
		"a post, from somebody in between":         {http.MethodPost, "", "RBAC: access denied", http.StatusForbidden, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newSite(t, 1, testCluster)
			a.AddRemote(2, []string{"http://127.0.0.1:1"})
			resp := &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.text)),
				Request: &http.Request{Method: c.method}}
			if c.cluster != "" {
				resp.Header.Set(headerCluster, c.cluster)
			}
			err := (*a.remotes.Load())[2].refusal(resp)
			told := false
			select {
			case <-a.removed:
				told = true
			default:
			}
			if told != c.removed || errors.Is(err, ErrRemoved) != c.removed {
				t.Errorf("it takes itself for removed: %v, and says %v", told, err)
			}
		})
	}
}

// TestASnapshotAtAnotherMembersAddressIsNoRemoval: the address of the one that it is for may lead elsewhere.
func TestASnapshotAtAnotherMembersAddressIsNoRemoval(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	away := &site{id: 3}
	a.AddRemote(away.id, []string{b.server.URL})
	s := &state{strings.NewReader("everything"), make(chan struct{})}
	a.SendSnapshot(snapshotMessage(a, away), s)
	if receive(t, a.snapshots, "report") {
		t.Error("it was reported as done")
	}
	select {
	case <-a.removed:
		t.Error("the sender takes itself for removed")
	default:
	}
	if len(b.received) > 0 {
		t.Errorf("the other member took %q", <-b.received)
	}
}

// membership is one without members, from which some were removed.
func membership(t *testing.T, removed ...uint64) *cluster.Membership {
	t.Helper()
	db, err := storage.OpenState("db", storage.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	ms, err := cluster.Load(db)
	if err != nil {
		t.Fatal(err)
	}
	batch := db.NewBatch()
	change := ms.Begin(batch)
	for _, id := range removed {
		if err := change.Remove(cluster.ID(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Commit(batch), batch.Close()); err != nil {
		t.Fatal(err)
	}
	change.Publish()
	return ms
}

// state is a state on its way; as a database it is another text.
type state struct {
	io.Reader
	closed chan struct{}
}

func (s *state) Close() error { close(s.closed); return nil }

func (s *state) Database(context.Context) (io.ReadCloser, int64, []byte, error) {
	return io.NopCloser(strings.NewReader("bbolt")), 5, []byte("v2 "), nil
}

func snapshotMessage(from, to *site) *raftpb.Message {
	m := message(raftpb.MsgSnap, from, to, 0)
	m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(42), Term: proto.Uint64(1)}}
	return m
}

func TestASnapshotArrivesWithItsState(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	join(a, b)
	s := &state{strings.NewReader("everything"), make(chan struct{})}
	a.SendSnapshot(snapshotMessage(a, b), s)
	if !receive(t, a.snapshots, "report") {
		t.Error("it was reported as failed")
	}
	receive(t, s.closed, "close")
	if got := receive(t, b.received, "snapshot"); got != "state 42 everything" {
		t.Errorf("got %q", got)
	}
}

func TestAMemberOfEtcdGetsADatabase(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/raft/probing" {
			return // nothing says that this is one of ours
		}
		b.Handler().ServeHTTP(w, r)
	}))
	t.Cleanup(func() { plain.CloseClientConnections(); plain.Close() })
	a.AddRemote(b.id, []string{plain.URL})
	s := &state{strings.NewReader("everything"), make(chan struct{})}
	a.SendSnapshot(snapshotMessage(a, b), s)
	if !receive(t, a.snapshots, "report") {
		t.Error("it was reported as failed")
	}
	if got := receive(t, b.received, "snapshot"); got != "database 42 v2 bbolt" {
		t.Errorf("got %q", got)
	}
}

// broken fails in the middle.
type broken struct{ n int }

func (b *broken) Read(p []byte) (int, error) {
	if b.n--; b.n < 0 {
		return 0, errors.New("the disk is gone")
	}
	return len(p), nil
}

func TestASnapshotThatBreaksIsReported(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	join(a, b)
	s := &state{&broken{3}, make(chan struct{})}
	a.SendSnapshot(snapshotMessage(a, b), s)
	if receive(t, a.snapshots, "report") {
		t.Error("it was reported as done")
	}
	receive(t, s.closed, "close")
	a.SendSnapshot(snapshotMessage(a, &site{id: 99}), &state{&broken{}, make(chan struct{})})
	if receive(t, a.snapshots, "report") {
		t.Error("one for nobody was reported as done")
	}
}

func TestQuestionsAreAnswered(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, 1, testCluster), newSite(t, 2, testCluster)
	c, urls := a.Client(), []string{"http://127.0.0.1:1", b.server.URL}
	ctx := t.Context()
	if ttl, err := c.RenewLease(ctx, urls, 7); ttl != 30 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	var r *Refusal
	if _, err := c.RenewLease(ctx, urls, 8); !errors.As(err, &r) || r.Status != http.StatusNotFound || r.Text != "lease not found" {
		t.Errorf("got %v", err)
	}
	s, err := c.TimeToLive(ctx, urls, 1<<40, true)
	if err != nil || s.ID != 1<<40 || s.Granted != 30 || s.Remaining != 20 || !bytes.Equal(s.Keys[0], []byte("k")) {
		t.Errorf("got %v, %v", s, err)
	}
	if v, err := c.Versions(ctx, urls); err != nil || v.Server != "3.7.1" {
		t.Errorf("got %v, %v", v, err)
	}
	if h, err := c.HashKV(ctx, urls, 9); err != nil || h.Hash != 5 || h.HashRevision != 9 {
		t.Errorf("got %v, %v", h, err)
	}
	if on, err := c.DowngradeEnabled(ctx, urls); !on || err != nil {
		t.Errorf("got %v, %v", on, err)
	}
	if err := c.Promote(ctx, urls, 1); !errors.As(err, &r) || r.Status != http.StatusInternalServerError {
		t.Errorf("got %v", err)
	}
}
