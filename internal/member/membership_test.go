package member

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// growing starts a member that may have two learners.
func growing(t *testing.T, disk *vfs.MemFS, change func(*Config)) *Member {
	t.Helper()
	cfg := configOf(t, disk, alone)
	cfg.MaxLearners, cfg.StrictReconfigCheck = 2, true
	if change != nil {
		change(&cfg)
	}
	return start(t, cfg)
}

func mustAdd(t *testing.T, m *Member, learner bool, urls ...string) cluster.ID {
	t.Helper()
	x, err := m.AddMember(t.Context(), urls, learner)
	if err != nil {
		t.Fatal(err)
	}
	return x.ID
}

func TestLearnersComeAndGo(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := growing(t, disk, nil)
	ctx := t.Context()
	self := m.self()
	one := mustAdd(t, m, true, "http://127.0.0.1:11")
	two := mustAdd(t, m, true, "http://127.0.0.1:12", "http://127.0.0.1:13")
	add := func(url string, learner bool) error {
		_, err := m.AddMember(ctx, []string{url}, learner)
		return err
	}
	steps := []struct {
		name      string
		got, want error
	}{
		{"a third learner", add("http://127.0.0.1:14", true), cluster.ErrTooManyLearners},
		{"a URL that another has", add("http://127.0.0.1:13", false), cluster.ErrPeerURLExists},
		{"promoting one far behind", m.PromoteMember(ctx, one), ErrLearnerNotReady},
		{"promoting a voter", m.PromoteMember(ctx, self), cluster.ErrNotLearner},
		{"promoting nobody", m.PromoteMember(ctx, 5), cluster.ErrIDNotFound},
		{"removing nobody", m.RemoveMember(ctx, 5), cluster.ErrIDNotFound},
		{"updating nobody", m.UpdateMember(ctx, 5, nil), cluster.ErrIDNotFound},
		{"removing the only voter", m.RemoveMember(ctx, self), ErrNotEnoughStarted},
		{"leadership to a learner", m.TransferLeader(ctx, one), ErrBadTransferee},
		{"leadership to nobody", m.TransferLeader(ctx, 5), ErrBadTransferee},
		{"leadership to who has it", m.TransferLeader(ctx, self), nil},
		{"a learner's URLs, unchecked", m.UpdateMember(ctx, one, []string{"anything"}), nil},
		{"removing a learner", m.RemoveMember(ctx, two), nil},
		{"removing it once more", m.RemoveMember(ctx, two), cluster.ErrIDRemoved},
		{"updating it", m.UpdateMember(ctx, two, nil), cluster.ErrIDRemoved},
	}
	for _, s := range steps {
		if !errors.Is(s.got, s.want) {
			t.Errorf("%s: got %v, want %v", s.name, s.got, s.want)
		}
	}
	put(t, m, "k", "v")
	stop(t, m)

	// The learner that never ran is no voter: a restart needs nobody else.
	m = growing(t, disk, nil)
	defer stop(t, m)
	if got := get(t, m, "k"); got != "v" {
		t.Errorf("after a restart k is %q", got)
	}
	if x, ok := m.Members().Member(one); !ok || !x.IsLearner || x.PeerURLs[0] != "anything" || !m.Members().IsRemoved(two) {
		t.Errorf("after a restart the learner is %+v", x)
	}
}

func TestTheOnlyVoterIsNotRemovedEvenWhenTheLogSaysSo(t *testing.T) {
	t.Parallel()
	m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.StrictReconfigCheck = false })
	defer stop(t, m)
	if err := m.RemoveMember(t.Context(), m.self()); !errors.Is(err, ErrNotEnoughStarted) {
		t.Errorf("asked for it: %v", err)
	}
	// Another member may have proposed it when it was not the only one.
	x := &cluster.ConfChangeContext{Member: cluster.Member{ID: m.self()}}
	if err := m.change(t.Context(), raftpb.ConfChangeRemoveNode, x); !errors.Is(err, cluster.ErrLastVoter) {
		t.Errorf("found in the log: %v", err)
	}
	put(t, m, "k", "v")
}

func TestWithoutTheSecondVoterNothingIsDecided(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := growing(t, disk, nil)
	other := mustAdd(t, m, false, "http://127.0.0.1:11")
	stop(t, m)
	cfg := configOf(t, disk, alone)
	cfg.MaxLearners, cfg.StrictReconfigCheck, cfg.RequestTimeout = 2, true, 300*time.Millisecond
	m = open(t, cfg) // it never becomes ready: nobody leads
	m.Start()
	defer stop(t, m)
	ctx := t.Context()
	_, again := m.AddMember(ctx, []string{"http://127.0.0.1:12"}, false)
	_, learner := m.AddMember(ctx, []string{"http://127.0.0.1:12"}, true)
	_, put := m.Propose(ctx, 4, putRequest(t, "k", "v"))
	steps := []struct {
		name      string
		got, want error
	}{
		{"a third voter", again, ErrNotEnoughStarted},
		{"a learner while a voter is not there", learner, ErrUnhealthy},
		{"a put", put, ErrTimeout},
		{"removing the one that runs", m.RemoveMember(ctx, m.self()), ErrNotEnoughStarted},
		{"removing the one that does not", m.RemoveMember(ctx, other), ErrTimeout},
		{"an update", m.UpdateMember(ctx, other, nil), ErrTimeout},
		{"a promotion", m.PromoteMember(ctx, other), ErrNoLeader},
		{"leadership", m.TransferLeader(ctx, other), ErrNotLeader},
	}
	for _, s := range steps {
		if !errors.Is(s.got, s.want) {
			t.Errorf("%s: got %v, want %v", s.name, s.got, s.want)
		}
	}
	err := m.ReadBarrier(ctx)
	for errors.Is(err, ErrLeaderChanged) {
		err = m.ReadBarrier(ctx)
	}
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("a read: %v", err)
	}
}

// TestVotersMustBeHealthy gives a member of two, whose other voter was started, connections of several ages.
func TestVotersMustBeHealthy(t *testing.T) {
	t.Parallel()
	ago := func(age time.Duration) func(uint64) time.Time {
		return func(uint64) time.Time { return time.Now().Add(-age) }
	}
	cases := map[string]struct {
		since       func(uint64) time.Time
		add, remove error
	}{
		"connected for long":       {ago(time.Minute), nil, nil},
		"connected a moment ago":   {ago(time.Second), ErrUnhealthy, ErrUnhealthy},
		"not connected: dispensed": {func(uint64) time.Time { return time.Time{} }, ErrUnhealthy, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := growing(t, vfs.NewCrashableMem(), func(cfg *Config) {
				cfg.ActiveSince = c.since
			})
			defer stop(t, m)
			b := m.gen.Load().db.NewBatch()
			change := m.Members().Begin(b)
			for _, id := range []cluster.ID{2, 3} {
				if err := change.Add(cluster.Member{ID: id, Name: "other"}); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			change.Publish()
			if err := m.mayAdd(true); !errors.Is(err, c.add) {
				t.Errorf("adding: %v", err)
			}
			if err := m.mayRemove(2); !errors.Is(err, c.remove) {
				t.Errorf("removing: %v", err)
			}
			m.cfg.StrictReconfigCheck = false
			if err := errors.Join(m.mayAdd(false), m.mayRemove(2)); err != nil {
				t.Errorf("without the check: %v", err)
			}
		})
	}
}

func TestARemovedMemberKnowsItAndStaysAway(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := growing(t, disk, nil)
	select {
	case <-m.Removed():
		t.Fatal("it is there")
	default:
	}
	// Alone it cannot remove itself, so the record of it is what a removal leaves.
	g := m.gen.Load()
	b := g.db.NewBatch()
	change := m.Members().Begin(b)
	if err := errors.Join(change.Remove(m.self()), g.db.Commit(b), b.Close()); err != nil {
		t.Fatal(err)
	}
	change.Publish()
	m.departure.notice(m, g)
	m.departure.notice(m, g)
	<-m.Removed()
	stop(t, m)
	cfg := configOf(t, disk, alone)
	if _, err := Open(cfg); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed member starts: %v", err)
	}
}

func TestReadsOfAMemberThatHearsOfItsRemovalEnd(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewCrashableMem(), notAlone))
	m.Start()
	defer stop(t, m)
	ended := make(chan error, 1)
	go func() { ended <- m.ReadBarrier(t.Context()) }()
	m.ToldRemoved()
	if err := <-ended; !errors.Is(err, ErrStopped) {
		t.Errorf("the read ends with %v", err)
	}
	if err := m.ReadBarrier(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("a read that comes later ends with %v", err)
	}
}

func TestAPromotionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewCrashableMem(), notAlone)) // not started: nobody answers
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.PromoteMember(ctx, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	stop(t, m)
	if err := m.PromoteMember(t.Context(), 5); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v", err)
	}
}
