package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coreos/go-semver/semver"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

func TestTheLowestVersionCounts(t *testing.T) {
	t.Parallel()
	v := func(s string) *semver.Version { return semver.New(s) }
	cases := map[string]struct {
		all  []*semver.Version
		want string
	}{
		"all alike":               {[]*semver.Version{v("3.7.1"), v("3.7.0")}, "3.7.0"},
		"an older one":            {[]*semver.Version{v("3.7.1"), v("3.6.9")}, "3.6.0"},
		"one that is not known":   {[]*semver.Version{v("3.7.1"), nil}, ""},
		"one from the future":     {[]*semver.Version{v("3.7.1"), v("3.9.0")}, "3.7.0"},
		"only ones of the future": {[]*semver.Version{v("4.0.0")}, "3.7.0"},
	}
	for name, c := range cases {
		if got := lowestMinor(c.all); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRefusalsOfTheLeaderAreUnderstood(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		refusal peer.Refusal
		want    error // nil: ask again
	}{
		"no such member":    {peer.Refusal{Status: 404, Text: "membership: ID not found"}, cluster.ErrIDNotFound},
		"behind":            {peer.Refusal{Status: 412, Text: learnerNotReady + "\n"}, ErrLearnerNotReady},
		"a voter":           {peer.Refusal{Status: 412, Text: "membership: can only promote a learner member"}, cluster.ErrNotLearner},
		"not the leader":    {peer.Refusal{Status: 500, Text: "etcdserver: not leader"}, nil},
		"something unknown": {peer.Refusal{Status: 412, Text: "no"}, nil},
	}
	for name, c := range cases {
		if got := promoteError(&c.refusal); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// scripted answers requests one after the other.
type scripted chan func(*http.Request) (int, string)

func (s scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case answer := <-s:
		status, text := answer(r)
		if status == 0 {
			return nil, errors.New(text)
		}
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text)), Header: http.Header{}, Request: r}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func TestTheLeaderIsAskedUntilItAnswers(t *testing.T) {
	t.Parallel()
	answers := make(scripted, 10)
	m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.HTTP = answers })
	defer stop(t, m)
	answer := func(status int, text string) { answers <- func(*http.Request) (int, string) { return status, text } }
	ask := func(ctx context.Context, urls []string) error {
		_, err := m.others.RenewLease(ctx, urls, 7)
		return err
	}
	urls := []string{"http://a:1"}

	answer(0, "connection refused")
	if done, err := m.askLeader(t.Context(), urls, ask); done || err == nil {
		t.Errorf("a connection that failed: %v, %v", done, err)
	}
	answer(http.StatusBadRequest, "not the primary lessor")
	if done, err := m.askLeader(t.Context(), urls, ask); done || err == nil {
		t.Errorf("not the leader: %v, %v", done, err)
	}
	answer(http.StatusNotFound, "lease not found")
	if done, err := m.askLeader(t.Context(), urls, ask); !done || !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("no such lease: %v, %v", done, err)
	}
	answer(http.StatusOK, "\x0a\x00\x10\x07\x18\x1e")
	if done, err := m.askLeader(t.Context(), urls, ask); !done || err != nil {
		t.Errorf("renewed: %v, %v", done, err)
	}
}

func TestTimeoutsAreExplained(t *testing.T) {
	t.Parallel()
	since := time.Time{}
	m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.ActiveSince = func(uint64) time.Time { return since } })
	defer stop(t, m)
	elected := m.node.LeaderSince()
	if err := m.explain(elected.Add(-time.Millisecond)); !errors.Is(err, ErrTimeoutLeaderFail) || !errors.Is(err, ErrTimeout) {
		t.Errorf("as the leader was elected: %v", err)
	}
	later := elected.Add(time.Hour)
	if err := m.explain(later); !errors.Is(err, ErrTimeout) || errors.Is(err, ErrTimeoutConnectionLost) {
		t.Errorf("alone: %v", err)
	}
	mustAdd(t, m, true, "http://127.0.0.1:11")
	if err := m.explain(later); !errors.Is(err, ErrTimeoutConnectionLost) {
		t.Errorf("with another one that is away: %v", err)
	}
	since = elected
	if err := m.explain(later); errors.Is(err, ErrTimeoutConnectionLost) {
		t.Errorf("with another one that is there: %v", err)
	}
}

// TestALeaderThatStandsStillIsNotWaitedForOnceThereIsAnotherOne: a renewal that it does not answer is asked of the next one long before the
// time for a request is over.
func TestALeaderThatStandsStillIsNotWaitedForOnceThereIsAnotherOne(t *testing.T) {
	t.Parallel()
	answers := make(scripted, 1)
	cfg := configOf(t, vfs.NewMem(), notAlone)
	cfg.HTTP = answers
	m := open(t, cfg)
	defer stop(t, m)
	step(m)
	var other cluster.ID
	for _, x := range m.Members().Members() {
		if x.ID != m.self() {
			other = x.ID
		}
	}
	term := uint64(100)
	elected := func() {
		term++
		m.node.Step(&raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(uint64(other)), To: proto.Uint64(m.ID()), Term: proto.Uint64(term),
		})
		step(m)
		if m.node.Leader() != uint64(other) {
			t.Fatalf("%x leads", m.node.Leader())
		}
	}
	elected()
	asked, outcome := make(chan struct{}), make(chan error, 1)
	answers <- func(r *http.Request) (int, string) {
		close(asked)
		<-r.Context().Done() // and not before
		return 0, "given up"
	}
	go func() {
		ttl, err := m.LeaseRenew(t.Context(), 7)
		if err == nil && ttl != 30 {
			err = fmt.Errorf("renewed for %d", ttl)
		}
		outcome <- err
	}()
	<-asked
	for range 3 * m.cfg.ElectionTicks { // nobody leads
		m.node.Tick()
		step(m)
	}
	if m.node.Leader() != 0 {
		t.Fatalf("%x leads", m.node.Leader())
	}
	answers <- func(*http.Request) (int, string) { return http.StatusOK, "\x0a\x00\x10\x07\x18\x1e" }
	elected()
	select {
	case err := <-outcome:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(cfg.RequestTimeout / 4):
		t.Error("the first leader is waited for")
	}
}
