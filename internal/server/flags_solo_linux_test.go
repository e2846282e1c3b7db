package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// solo is a member beside the lab's, on unix sockets in dir.
type solo struct {
	*member.Member
	client   *clientv3.Client
	dir, log string
	end      func() error
}

// solo runs a member with these flags until the test ends. One that has others beside it is not waited for.
func (l *flagLab) solo(t *testing.T, h Host, flags ...string) *solo {
	t.Helper()
	dir, err := os.MkdirTemp(l.dir, "m") // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	return l.soloIn(t, dir, h, flags...)
}

// soloIn is solo in a directory that may hold a member's data already.
func (l *flagLab) soloIn(t *testing.T, dir string, h Host, flags ...string) *solo {
	t.Helper()
	x := &solo{dir: dir, log: filepath.Join(dir, "log")}
	cfg := parsed(t, append([]string{"--data-dir=" + filepath.Join(dir, "data"), "--listen-client-urls=unix://" + dir + "/c",
		"--advertise-client-urls=http://127.0.0.1:1", "--listen-peer-urls=unix://" + dir + "/p",
		"--listen-metrics-urls=unix://" + dir + "/m", "--log-outputs=" + x.log}, flags...)...)
	ready := !strings.Contains(cfg.InitialCluster, ",")
	var stop func() error
	x.Member, stop = l.runIn(t, cfg, h, ready)
	var err error
	x.client, err = clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + dir + "/c"}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	x.end = sync.OnceValue(func() error { return errors.Join(x.client.Close(), stop()) })
	t.Cleanup(func() {
		if err := x.end(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// says tells whether the member's log holds a text.
func (x *solo) says(t *testing.T, text string) bool {
	t.Helper()
	all, err := os.ReadFile(x.log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(all), text)
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	pause := time.NewTicker(time.Millisecond)
	defer pause.Stop()
	for end := time.Now().Add(flagPatience); !so(); <-pause.C {
		if time.Now().After(end) {
			t.Fatalf("it never happened that %s", what)
		}
	}
}

// pacedClock is a clock by hand that knows whether its ticks were taken.
type pacedClock struct {
	*clock.Manual
	mu      sync.Mutex
	tickers map[time.Duration][]clock.Ticker // by period
}

// newPacedClock shows a time at which no deadline of a connection has passed.
func newPacedClock() *pacedClock { return newPacedClockAt(time.Now().AddDate(1, 0, 0)) }

func newPacedClockAt(start time.Time) *pacedClock {
	return &pacedClock{Manual: clock.NewManual(start), tickers: map[time.Duration][]clock.Ticker{}}
}

// NewTicker implements clock.Clock.
func (p *pacedClock) NewTicker(d time.Duration) clock.Ticker {
	ticker := p.Manual.NewTicker(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tickers[d] = append(p.tickers[d], ticker)
	return ticker
}

// await returns when there are n tickers of a period.
func (p *pacedClock) await(t *testing.T, period time.Duration, n int) {
	t.Helper()
	eventually(t, "somebody waits for "+period.String(), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.tickers[period]) >= n
	})
}

// tick lets a period pass, and returns when all who wait for each such period have been told: whatever they do of the tick
// before is done then.
func (p *pacedClock) tick(t *testing.T, period time.Duration) {
	t.Helper()
	p.Advance(period)
	eventually(t, "the ticks of "+period.String()+" are taken", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, ticker := range p.tickers[period] {
			if len(ticker.C()) > 0 {
				return false
			}
		}
		return true
	})
}

// stand stands for another member: it has connections, and no state.
type stand struct {
	*peer.Transport
	id      cluster.ID
	url     string
	handler atomic.Pointer[http.Handler]
	beats   chan struct{} // heartbeats that came; those that go with reads are left out
	polls   atomic.Int64  // that came before elections
	hash    func(revision int64) peer.HashKV
	hashes  atomic.Int64 // that were asked for
}

// newStand returns one that is nobody yet. It is made before the member that it stands beside, and ends after it.
func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{beats: make(chan struct{}, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := r.URL.Path != "/members" && r.URL.Path != "/downgrade/enabled"
		if h := s.handler.Load(); h != nil && known {
			(*h).ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	s.url = server.URL
	cfg := parsed(t)
	p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
	s.Transport = p.transport
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// be makes it a member of a cluster.
func (s *stand) be(id, clusterID uint64) {
	s.id = cluster.ID(id)
	s.Start(peer.Identity{Member: id, Cluster: clusterID}, s, peer.Answers{
		Versions: func() peer.Versions { return peer.Versions{Server: "3.7.1", Cluster: "3.7.0", Storage: "3.7.0"} },
		HashKV: func(_ context.Context, revision int64) (peer.HashKV, error) {
			s.hashes.Add(1)
			if s.hash == nil {
				return peer.HashKV{}, errors.New("there is none")
			}
			return s.hash(revision), nil
		},
		Chain: func(uint64) peer.Chain { return peer.Chain{} },
	})
	h := s.Handler()
	s.handler.Store(&h)
}

// Step implements peer.Raft.
func (s *stand) Step(m *raftpb.Message) {
	switch {
	case m.GetType() == raftpb.MsgPreVote:
		s.polls.Add(1)
	case m.GetType() == raftpb.MsgHeartbeat && len(m.GetContext()) == 0:
		select {
		case s.beats <- struct{}{}:
		default:
		}
	}
}

// ReportUnreachable implements peer.Raft.
func (*stand) ReportUnreachable(uint64) {}

// ReportSnapshot implements peer.Raft.
func (*stand) ReportSnapshot(uint64, bool) {}

// learns makes a stand the learner of a member's cluster.
func (x *solo) learns(t *testing.T, s *stand) {
	t.Helper()
	added, err := x.client.MemberAddAsLearner(t.Context(), []string{s.url})
	if err != nil {
		t.Fatal(err)
	}
	s.be(added.Member.ID, x.ClusterID())
	x.put(t, 1) // what was decided before it is done
}

// put writes k so often.
func (x *solo) put(t *testing.T, times int) (revision int64) {
	t.Helper()
	for range times {
		r, err := x.client.Put(t.Context(), "k", "v")
		if err != nil {
			t.Fatal(err)
		}
		revision = r.Header.Revision
	}
	return revision
}

// besides returns the flags of a member of a cluster whose other voters are stands.
func besides(t *testing.T, others ...*stand) []string {
	t.Helper()
	initial := "m1=http://127.0.0.1:7"
	for i, s := range others {
		initial += ",s" + string(rune('1'+i)) + "=" + s.url
	}
	ic, err := cluster.ParseInitialCluster(initial)
	if err != nil {
		t.Fatal(err)
	}
	founded, err := cluster.Found(ic, "etcd-cluster")
	if err != nil {
		t.Fatal(err)
	}
	self, _ := founded.ByName("m1")
	for i, s := range others {
		x, _ := founded.ByName("s" + string(rune('1'+i)))
		s.be(uint64(x.ID), uint64(founded.ID()))
		s.AddRemote(uint64(self.ID), self.PeerURLs)
	}
	return []string{"--name=m1", "--initial-cluster=" + initial, "--initial-advertise-peer-urls=http://127.0.0.1:7"}
}
