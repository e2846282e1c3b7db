package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

func TestAMemberFindsItselfInTheClusterItJoins(t *testing.T) {
	t.Parallel()
	others := []cluster.Member{
		{ID: 1, Name: "a", PeerURLs: []string{"http://a:1", "http://a:2"}},
		{ID: 2, PeerURLs: []string{"http://[::1]:1"}},
	}
	cases := map[string]struct {
		initial string
		want    cluster.ID
		refused string
	}{
		"by its addresses, whatever the others call it": {"a=http://a:1,a=http://a:2,b=http://[::1]:1", 2, ""},
		"with the addresses in another order":           {"a=http://a:2,b=http://[::1]:1,a=http://a:1", 2, ""},
		"a member too few":                              {"b=http://[::1]:1", 0, "member count is unequal"},
		"a member too many":                             {"a=http://a:1,a=http://a:2,b=http://[::1]:1,c=http://c:1", 0, "member count is unequal"},
		"another address": {"a=http://a:1,a=http://a:2,b=http://[::1]:2", 0,
			"error validating peerURLs: PeerURLs: no match found for existing member (2, [http://[::1]:1]), last resolver error (resolved urls:"},
		"an address that is spelled in another way": {"a=http://a:1,a=http://a:2,b=http://[0:0::1]:1", 2, ""},
	}
	for name, c := range cases {
		cfg := config.Default("ashlar")
		cfg.InitialCluster = c.initial
		initial, err := cfg.InitialMembers()
		if err != nil {
			t.Fatal(err)
		}
		j, remotes, err := joining(t.Context(), "b", initial, 77, others)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || j.Member != c.want || j.Cluster != 77 || len(remotes) != 2 {
			t.Errorf("%s: got %v, %v, %v", name, j, remotes, err)
		}
	}
}

// founded returns the cluster that the members of a configuration found.
func founded(t *testing.T, cfg *config.Config) (cluster.InitialCluster, *cluster.Founding) {
	t.Helper()
	ic, err := cluster.ParseInitialCluster(cfg.InitialCluster)
	if err != nil {
		t.Fatal(err)
	}
	f, err := cluster.Found(ic, cfg.InitialClusterToken)
	if err != nil {
		t.Fatal(err)
	}
	return ic, f
}

// knowing serves a member that says this of its cluster, once after is closed, and closes the result then. It is asked once.
func knowing(t *testing.T, after <-chan struct{}, says func() (clusterID cluster.ID, members string)) (url string, answered chan struct{}) {
	t.Helper()
	answered = make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-after
		id, members := says()
		w.Header().Set("X-Etcd-Cluster-ID", id.String())
		fmt.Fprint(w, members)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		close(answered)
	}))
	t.Cleanup(s.Close)
	return s.URL, answered
}

// TestOneMemberThatKnowsOfALossIsEnough to keep a member whose data were lost from founding the cluster again, although another one, which was
// away since its founding, answers first: the two would be a majority that knows nothing of what was acknowledged.
func TestOneMemberThatKnowsOfALossIsEnough(t *testing.T) {
	t.Parallel()
	cfg := config.Default("ashlar")
	cfg.Name = "a"
	now := make(chan struct{})
	close(now)
	var founding *cluster.Founding // of the addresses of the two, once these are known
	says := func(more string) func() (cluster.ID, string) {
		return func() (cluster.ID, string) {
			self, _ := founding.ByName("a")
			return founding.ID(), fmt.Sprintf(`[{"id":%d,"peerURLs":["http://a:1"],"name":"a"%s}]`, uint64(self.ID), more)
		}
	}
	behind, answered := knowing(t, now, says(""))
	upToDate, _ := knowing(t, answered, says(`,"clientURLs":["http://a:2"]`))
	cfg.InitialCluster = "a=http://a:1,b=" + behind + ",c=" + upToDate
	var ic cluster.InitialCluster
	ic, founding = founded(t, &cfg)
	p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
	if _, _, err := p.bootstrap(t.Context(), &cfg, ic); err == nil || !strings.Contains(err.Error(), "has already been bootstrapped") {
		t.Errorf("it may found the cluster: %v", err)
	}
}

// TestWhoHasYetToApplyThatAMemberRanIsWaitedFor: after a crash of the whole cluster that is what all others have to do when a member whose data
// were lost asks them.
func TestWhoHasYetToApplyThatAMemberRanIsWaitedFor(t *testing.T) {
	t.Parallel()
	const some, always = 3, 1 << 30
	for name, c := range map[string]struct {
		busy    int64 // so many questions are refused
		cluster func(cluster.ID) string
		refused string // as a founding member
		joins   string // why it may not join, if it may not
	}{
		"a member that says so soon":       {some, cluster.ID.String, "has already been bootstrapped", "has already been bootstrapped"},
		"one that does not say so in time": {always, cluster.ID.String, "start it again when all others are up", "start it again when all others are up"},
		"one of another cluster":           {always, func(id cluster.ID) string { return (id + 1).String() }, "", "start it again when all others are up"},
		"a proxy with no member behind it": {always, func(cluster.ID) string { return "" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			var founding *cluster.Founding
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked.Add(1) <= c.busy {
					w.Header().Set("X-Etcd-Cluster-ID", c.cluster(founding.ID()))
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				w.Header().Set("X-Etcd-Cluster-ID", founding.ID().String())
				self, _ := founding.ByName("a")
				fmt.Fprintf(w, `[{"id":%d,"peerURLs":["http://a:1"],"clientURLs":["http://a:2"]}]`, uint64(self.ID))
			}))
			t.Cleanup(s.Close)
			unknown := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Etcd-Cluster-ID", founding.ID().String())
				self, _ := founding.ByName("a")
				fmt.Fprintf(w, `[{"id":%d,"peerURLs":["http://a:1"]},{"id":2,"peerURLs":["http://b:1"]},{"id":3,"peerURLs":["http://c:1"]}]`, uint64(self.ID))
			}))
			t.Cleanup(unknown.Close)
			cfg := config.Default("ashlar")
			cfg.Name, cfg.InitialCluster = "a", "a=http://a:1,b=http://b:1,c=http://c:1"
			_, founding = founded(t, &cfg)
			initial, err := cfg.InitialMembers()
			if err != nil {
				t.Fatal(err)
			}
			self, _ := founding.ByName("a")
			p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
			if c.busy == always {
				p.replayTimeout = 0
			}
			urls := []string{s.URL, unknown.URL}
			if err := p.refuseSecondBootstrap(t.Context(), self, founding.ID(), urls); !says(err, c.refused) {
				t.Errorf("to found the cluster: %v", err)
			}
			asked.Store(0)
			if _, _, err := p.join(t.Context(), "a", initial, urls); !says(err, c.joins) {
				t.Errorf("to join: %v", err)
			}
		})
	}
}

// TestAMemberThatIsBeingOpenedIsWaitedFor by one that asks whether it ran before, but one that has no data is not: those of a new cluster that are
// started together would wait for each other.
func TestAMemberThatIsBeingOpenedIsWaitedFor(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	cfg := config.Default("ashlar")
	cfg.Name, cfg.InitialCluster = "a", "a=http://a:1,b=http://b:1"
	_, founding := founded(t, &cfg)
	self, _ := founding.ByName("a")
	asker, impatient := newPeers(&cfg, clock.Real(), log, func() {}), newPeers(&cfg, clock.Real(), log, func() {})
	impatient.replayTimeout = 0
	other := func(ran bool) (*peers, []string) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := newPeers(&cfg, clock.Real(), log, func() {})
		p.begin([]net.Listener{l}, ran, log)
		t.Cleanup(func() {
			if err := p.stop(); err != nil {
				t.Error(err)
			}
		})
		return p, []string{"http://" + l.Addr().String()}
	}
	_, empty := other(false)
	var told *peer.Refusal
	if a := asker.askMember(t.Context(), empty[0]); !errors.As(a.err, &told) {
		t.Errorf("one that has no data says %v", a.err)
	}
	if err := asker.refuseSecondBootstrap(t.Context(), self, founding.ID(), empty); err != nil {
		t.Errorf("with one that has no data: %v", err)
	}
	o, opening := other(true)
	const unsure = "start it again when all others are up"
	if err := impatient.refuseSecondBootstrap(t.Context(), self, founding.ID(), opening); !says(err, unsure) {
		t.Errorf("with one that is not opened in time: %v", err)
	}
	if _, _, err := impatient.join(t.Context(), "a", nil, opening); !says(err, "the member is being opened") {
		t.Errorf("to join one that is not opened in time: %v", err)
	}
	refused := make(chan error)
	go func() { refused <- asker.refuseSecondBootstrap(t.Context(), self, founding.ID(), opening) }()
	o.early.Open(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Etcd-Cluster-ID", founding.ID().String())
		fmt.Fprintf(w, `[{"id":%d,"peerURLs":["http://a:1"],"clientURLs":["http://a:2"]}]`, uint64(self.ID))
	}))
	if err := <-refused; !says(err, "has already been bootstrapped") {
		t.Errorf("with one that is opened then: %v", err)
	}
}

// says says whether err is nil for no text, and otherwise one that has it.
func says(err error, text string) bool {
	return err == nil && text == "" || err != nil && text != "" && strings.Contains(err.Error(), text)
}

// TestAMemberThatIsBehindDoesNotKeepAnotherOneFromJoining, nor one that has joined itself and knows nobody yet.
func TestAMemberThatIsBehindDoesNotKeepAnotherOneFromJoining(t *testing.T) {
	t.Parallel()
	now := make(chan struct{})
	close(now)
	says := func(members string) func() (cluster.ID, string) {
		return func() (cluster.ID, string) { return 7, members }
	}
	none, answered := knowing(t, now, says(`[]`))
	behind, answered := knowing(t, answered, says(`[{"id":1,"peerURLs":["http://127.0.0.1:1"]}]`))
	upToDate, _ := knowing(t, answered, says(`[{"id":1,"peerURLs":["http://127.0.0.1:1"]},{"id":2,"peerURLs":["`+none+`"]},`+
		`{"id":3,"peerURLs":["`+behind+`"]},{"id":4,"peerURLs":["http://127.0.0.1:4"]}]`))
	cfg := config.Default("ashlar")
	cfg.Name, cfg.InitialClusterState = "d", "existing"
	cfg.InitialCluster = "a=http://127.0.0.1:1,b=" + none + ",c=" + behind + ",d=http://127.0.0.1:4"
	p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
	initial, err := cfg.InitialMembers()
	if err != nil {
		t.Fatal(err)
	}
	j, remotes, err := p.join(t.Context(), cfg.Name, initial, []string{none, behind, upToDate})
	if err != nil || j.Member != 4 || j.Cluster != 7 || len(remotes) != 4 {
		t.Errorf("got %v, %v, %v", j, remotes, err)
	}
	if _, _, err := p.join(t.Context(), cfg.Name, initial, nil); err == nil || !strings.Contains(err.Error(), "could not retrieve cluster information") {
		t.Errorf("with nobody to ask: %v", err)
	}
}

// TestALossIsNotMadeGoodByJoining: who has forgotten what it promised must not vote again. Its addresses may have been given to a new member
// since, of which one that is behind has not heard.
func TestALossIsNotMadeGoodByJoining(t *testing.T) {
	t.Parallel()
	member := func(id int, more string) string {
		return fmt.Sprintf(`[{"id":1,"peerURLs":["http://127.0.0.1:1"],"clientURLs":["http://127.0.0.1:9"]},{"id":%d,"peerURLs":["http://127.0.0.1:2"]%s}]`, id, more)
	}
	unknown, ran := member(2, ""), member(2, `,"clientURLs":["http://127.0.0.1:8"]`)
	for name, c := range map[string]struct {
		says []string
		want cluster.ID
	}{
		"nobody knows that it ran":                 {[]string{unknown, unknown}, 2},
		"all know it":                              {[]string{ran, ran}, 0},
		"the one that is behind answers first":     {[]string{unknown, ran}, 0},
		"the one that is behind answers last":      {[]string{ran, unknown}, 0},
		"it was removed, and added anew":           {[]string{member(3, "")}, 3},
		"so it was, and one has not heard of it":   {[]string{ran, member(3, "")}, 3},
		"so it was, and that one answers the last": {[]string{member(3, ""), ran}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := make(chan struct{})
			close(after)
			var urls []string
			for _, members := range c.says {
				var url string
				url, after = knowing(t, after, func() (cluster.ID, string) { return 7, members })
				urls = append(urls, url)
			}
			cfg := config.Default("ashlar")
			cfg.Name, cfg.InitialClusterState = "b", "existing"
			cfg.InitialCluster = "a=http://127.0.0.1:1,b=http://127.0.0.1:2"
			initial, err := cfg.InitialMembers()
			if err != nil {
				t.Fatal(err)
			}
			p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
			j, _, err := p.join(t.Context(), cfg.Name, initial, urls)
			switch {
			case c.want != 0 && (err != nil || j.Member != c.want):
				t.Errorf("it becomes %v, %v", j, err)
			case c.want == 0 && (err == nil || !strings.Contains(err.Error(), "member 2 has already been bootstrapped")):
				t.Errorf("it becomes %v, %v", j, err)
			}
		})
	}
}

// TestAMemberThatIsToEndWhileItAsksTheOthersEndsInOrder, and leaves no data directory behind: with one the next start asks nobody whether it ran before,
// and a member whose data were lost votes again.
func TestAMemberThatIsToEndWhileItAsksTheOthersEndsInOrder(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"one that does not answer yet": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"one that is being opened": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Ashlar-Opening", "true")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
	} {
		for _, state := range []string{"new", "existing"} {
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				asked := make(chan struct{}, 1)
				other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					select {
					case asked <- struct{}{}:
					default:
					}
					answer(w, r)
				}))
				t.Cleanup(other.Close)
				cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
				cfg.Name, cfg.InitialClusterState = "a", state
				cfg.InitialCluster = "a=http://127.0.0.1:1,b=" + other.URL
				ctx, stop := context.WithCancel(t.Context())
				t.Cleanup(stop)
				ended := make(chan error)
				go func() { ended <- Run(ctx, cfg, slog.New(slog.DiscardHandler)) }()
				<-asked
				stop()
				if err := <-ended; err != nil {
					t.Errorf("it ended with %v", err)
				}
				if cfg.Initialised() {
					t.Error("the next start would ask nobody")
				}
			})
		}
	}
}
