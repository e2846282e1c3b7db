package member

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// leased is a member whose loops and clock the test moves.
type leased struct {
	*Member
	t     testing.TB
	clock *clock.Manual
}

// newLeased opens a member on a disk and makes it the primary, if it can be.
func newLeased(t testing.TB, disk storage.FS, change func(*Config)) *leased {
	t.Helper()
	x := &leased{t: t, clock: clock.NewManual(time.Unix(1_000_000, 0))}
	cfg := configOf(t, disk, alone)
	cfg.Clock, cfg.MaxRequestBytes = x.clock, 1<<20
	cfg.TickInterval, cfg.ElectionTicks = 100*time.Millisecond, 10
	if change != nil {
		change(&cfg)
	}
	x.Member = open(t, cfg)
	x.settle()
	return x
}

// settle lets all loops run until nothing is left to do at this time.
func (x *leased) settle() {
	for range 3 {
		step(x.Member)
		x.LeaseStep()
	}
	step(x.Member)
}

// pass lets time pass in small steps, as the lessor's own loop sees it.
func (x *leased) pass(d time.Duration) {
	const little = 250 * time.Millisecond
	for ; d > 0; d -= little {
		x.clock.Advance(min(d, little))
		x.settle()
	}
}

func (x *leased) do(cmd apply.Command, r proto.Message) apply.Result {
	x.t.Helper()
	p, err := x.Begin(cmd, encoded(x.t, r))
	if err != nil {
		x.t.Fatal(err)
	}
	step(x.Member)
	res, ok := p.Poll()
	if !ok {
		x.t.Fatalf("%s was not decided", cmd)
	}
	return res
}

func (x *leased) grant(id, ttl int64) {
	x.t.Helper()
	if res := x.do(apply.CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl}); res.Err != nil {
		x.t.Fatal(res.Err)
	}
}

func (x *leased) renew(id int64) (int64, error) {
	x.t.Helper()
	r := x.BeginLeaseRenew(id)
	for range 5 {
		step(x.Member)
		if ttl, wait, err := r.Poll(); wait == nil {
			return ttl, err
		}
	}
	return 0, errUndecided
}

var errUndecided = errors.New("not decided")

// left returns the ids of the leases that are there.
func (x *leased) left() (ids []int64) {
	for _, l := range x.leases().List() {
		ids = append(ids, l.ID)
	}
	return ids
}

func (x *leased) wantLeft(when string, want ...int64) {
	x.t.Helper()
	if got := x.left(); !slices.Equal(got, want) {
		x.t.Errorf("%s: the leases %v are left, want %v", when, got, want)
	}
}

func TestALeaseEndsWhenItsTimeIsOverAndTakesItsKeys(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 20)
	for _, key := range []string{"b", "a"} {
		if res := x.do(apply.CommandPut, &etcdserverpb.PutRequest{Key: []byte(key), Lease: 1}); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	rev := x.Store().Revision()
	x.pass(10*time.Second - time.Millisecond)
	x.wantLeft("just before", 1, 2)
	x.pass(time.Millisecond)
	x.wantLeft("at its time", 2)
	if got := x.Store().Revision(); got != rev+1 {
		t.Errorf("revision %d after %d: want one for both keys", got, rev)
	}
	v, err := x.View(0)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if res, err := v.Range(mvcc.RangeOptions{Key: []byte("a"), End: []byte("z")}, func(mvcc.KV) error { return nil }); err != nil || res.Count != 0 {
		t.Errorf("%d keys are left, %v", res.Count, err)
	}
	x.pass(10 * time.Second)
	x.wantLeft("at the second one's")
}

func TestARenewedLeaseLives(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	for range 5 {
		x.pass(9 * time.Second)
		if ttl, err := x.renew(1); ttl != 10 || err != nil {
			t.Fatalf("renewed for %d, %v", ttl, err)
		}
	}
	x.wantLeft("after 45 seconds", 1)
	if _, err := x.renew(2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing one that ended: %v", err)
	}
	x.pass(10 * time.Second)
	x.wantLeft("10 seconds after the last renewal")
}

func TestARenewalBeforeTheProposalWinsAndOneAfterItLoses(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	for range 10_000 / 250 { // nobody looks at the leases meanwhile
		x.clock.Advance(250 * time.Millisecond)
		x.lessor.last = x.lessor.now()
	}
	if ttl, err := x.renew(1); ttl != 10 || err != nil {
		t.Fatalf("a lease that is due: %d, %v", ttl, err)
	}
	x.LeaseStep() // asks for the confirmation
	x.node.Turn()
	x.LeaseStep() // proposes
	late := x.BeginLeaseRenew(2)
	x.node.Turn() // takes the proposal and confirms the renewal
	x.node.Turn()
	if ttl, wait, err := late.Poll(); wait == nil {
		t.Errorf("a lease whose end is proposed: %d, %v; want to wait", ttl, err)
	}
	x.settle()
	if ttl, wait, err := late.Poll(); wait != nil || !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("after the end: %d, %v", ttl, err)
	}
	x.wantLeft("afterwards", 1)
}

func TestWhatIsDueFirstEndsFirstAndNotAllAtOnce(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	const leases = 3000
	for i := range int64(leases) {
		x.grant(leases-i, 10+(leases-i)/100) // the higher the id, the later
	}
	before := x.Log().LastIndex()
	for range 60_000 / 250 {
		x.clock.Advance(250 * time.Millisecond)
		x.lessor.last = x.lessor.now()
	}
	x.LeaseStep()
	for len(x.left()) > 0 {
		last := len(x.left())
		x.node.Turn()
		x.LeaseStep()
		if n := len(x.lessor.ending); n > endingMax {
			t.Fatalf("%d are under way", n)
		}
		step(x.Member)
		if n := last - len(x.left()); n > endingMax/2 {
			t.Fatalf("%d ended at a time", n)
		}
		x.clock.Advance(expiryPause)
	}
	es, err := x.Log().Entries(before+1, x.Log().LastIndex()+1, 1<<30)
	if err != nil || len(es) != leases {
		t.Fatalf("%d entries, %v; want one for each of %d leases", len(es), err, leases)
	}
	ended := time.Duration(0)
	for _, e := range es {
		id := revoked(t, e)
		at := time.Duration(10+id/100) * time.Second
		if at < ended {
			t.Fatalf("lease %d, due at %v, ends after one due at %v", id, at, ended)
		}
		ended = at
	}
}

// revoked returns the lease that an entry ends.
func revoked(t *testing.T, e *raftpb.Entry) int64 {
	t.Helper()
	var r etcdserverpb.InternalRaftRequest
	if err := proto.Unmarshal(e.GetData(), &r); err != nil || r.LeaseRevoke == nil {
		t.Fatalf("entry %d is %v, %v", e.GetIndex(), &r, err)
	}
	return r.LeaseRevoke.ID
}

func TestARestartGivesTheFullTimeAgain(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	x := newLeased(t, disk, nil)
	x.grant(1, 10)
	x.pass(9 * time.Second)
	stop(t, x.Member)
	x = newLeased(t, disk, nil)
	defer stop(t, x.Member)
	x.pass(11*time.Second - 10*time.Millisecond) // with an election timeout more
	x.wantLeft("before the full time and an election timeout", 1)
	x.pass(10 * time.Millisecond)
	x.wantLeft("after it")
}

func TestWithoutLeadershipNothingEnds(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	// Another member is added and never answers: there is no quorum any more.
	cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(77), Context: []byte(
		`{"id":77,"peerURLs":["http://127.0.0.1:2382"],"isLearner":false}`)}
	if _, err := x.submit(x.ids.next(), 0, &consensus.Proposal{Data: encoded(t, cc), ConfChange: true}); err != nil {
		t.Fatal(err)
	}
	x.settle()
	for range 20 {
		x.pass(time.Second)
	}
	x.wantLeft("without a quorum", 1)
	if _, err := x.renew(1); !errors.Is(err, errUndecided) && !errors.Is(err, ErrNotPrimary) {
		t.Errorf("a renewal without a quorum: %v", err)
	}
	for range 20 { // and without a leader, once it has stepped down
		x.node.Tick()
		x.settle()
	}
	if x.node.IsLeader() {
		t.Fatal("it leads without a quorum")
	}
	x.pass(time.Second)
	if _, err := x.renew(1); !errors.Is(err, ErrNotPrimary) {
		t.Errorf("a renewal without a leader: %v", err)
	}
	x.wantLeft("without a leader", 1)
}

func TestAfterAStandstillRenewalsComeFirst(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.grant(2, 10)
	x.clock.Advance(time.Minute) // the process was stopped
	x.settle()
	x.wantLeft("at once", 1, 2)
	if ttl, err := x.renew(1); ttl != 10 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	x.pass(time.Second + 250*time.Millisecond)
	x.wantLeft("an election timeout later", 1)
}

func TestCheckpointsTellTheNextPrimaryWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		checkpoint, persist, renew bool
		want                       int64 // left after a restart, without the election timeout
	}{
		"both gates":                   {true, true, false, 1000 - 600},
		"both gates, and a renewal":    {true, true, true, 1000},
		"nothing lasts over a restart": {true, false, false, 1000},
		"no gate":                      {false, false, false, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			gates := func(cfg *Config) { cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist = c.checkpoint, c.persist }
			x := newLeased(t, disk, gates)
			x.grant(1, 1000)
			x.grant(2, 200)
			x.pass(10*time.Minute + 10*time.Second)
			if l, _ := x.leases().Get(1); (l.Remaining == 400) != c.checkpoint {
				t.Errorf("%d seconds are checkpointed", l.Remaining)
			}
			if c.renew {
				r := x.BeginLeaseRenew(1)
				step(x.Member)
				if _, wait, err := r.Poll(); err != nil || wait != nil || !r.clear {
					t.Fatalf("a renewal: %v, clears the checkpoint %v", err, r.clear)
				}
				x.do(apply.CommandLeaseCheckpoint, &etcdserverpb.LeaseCheckpointRequest{Checkpoints: []*etcdserverpb.LeaseCheckpoint{{ID: 1}}})
			}
			stop(t, x.Member)
			x = newLeased(t, disk, gates)
			defer stop(t, x.Member)
			st, err := x.lessor.status(x.lessor.term, 1)
			if want := c.want + 1; err != nil || st.Remaining != want || st.Granted != 1000 {
				t.Errorf("%d of %d seconds are left, %v; want %d", st.Remaining, st.Granted, err, want)
			}
		})
	}
}

// TestARefusedEndIsTriedAgain: while the alarm CORRUPT refuses the end of a lease, renewals go on; once it is lowered, leases end.
func TestARefusedEndIsTriedAgain(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	alarm := func(a etcdserverpb.AlarmRequest_AlarmAction) {
		t.Helper()
		r := x.do(apply.CommandAlarm, &etcdserverpb.AlarmRequest{
			Action: a, MemberID: uint64(x.self()), Alarm: etcdserverpb.AlarmType_CORRUPT,
		})
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for id := range int64(3) {
		x.grant(id+1, 10)
	}
	x.pass(9*time.Second + 750*time.Millisecond)
	if _, err := x.Begin(apply.CommandAlarm, encoded(t, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(x.self()), Alarm: etcdserverpb.AlarmType_CORRUPT,
	})); err != nil {
		t.Fatal(err)
	}
	x.pass(500 * time.Millisecond) // the alarm is applied together with the ends, which it refuses
	x.wantLeft("with the alarm", 1, 2, 3)
	if ttl, err := x.renew(1); ttl != 10 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	before := x.Log().LastIndex()
	x.pass(5 * time.Second)
	if n := x.Log().LastIndex() - before; n > 0 {
		t.Errorf("%d entries were proposed that the alarm refuses", n)
	}
	alarm(etcdserverpb.AlarmRequest_DEACTIVATE)
	x.pass(time.Second)
	x.wantLeft("without the alarm", 1)
}

// TestACheckpointUnderWayDoesNotOvertakeARenewal: a checkpoint that is proposed and not applied when a lease is renewed says
// less than the renewal gave, so the renewal has to take it back.
func TestACheckpointUnderWayDoesNotOvertakeARenewal(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), func(cfg *Config) {
		cfg.LeaseCheckpoint, cfg.LeaseCheckpointPersist, cfg.FastLeaseKeepAlive = true, true, true
	})
	defer stop(t, x.Member)
	x.grant(1, 1000)
	x.pass(checkpointEvery - 250*time.Millisecond)
	x.clock.Advance(250 * time.Millisecond)
	x.LeaseStep() // proposes the checkpoint
	r := x.BeginLeaseRenew(1)
	x.node.Turn() // it is in raft's log, and the renewal is confirmed
	x.node.Turn()
	if ttl, wait, err := r.Poll(); ttl != 1000 || wait != nil || err != nil {
		t.Fatalf("renewed for %d, %v", ttl, err)
	}
	if l, _ := x.leases().Get(1); l.Remaining != 0 {
		t.Fatalf("the checkpoint is applied already: %+v", l)
	}
	if !r.clear {
		t.Error("the renewal does not take the checkpoint back")
	}
	x.lessor.cleared(r.term, 1)
	x.settle()
	if l, _ := x.leases().Get(1); l.Remaining != 700 {
		t.Errorf("the checkpoint says %+v", l)
	}
}

// TestWhatFallsDueAfterTheQuestionWaitsForAnother: the quorum's answer may be older than the end of the second lease.
func TestWhatFallsDueAfterTheQuestionWaitsForAnother(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	x.clock.Advance(100 * time.Millisecond)
	x.grant(2, 10)
	x.pass(9*time.Second + 750*time.Millisecond)
	x.clock.Advance(150 * time.Millisecond)
	x.LeaseStep() // the first is due: it asks
	x.node.Turn() // and is answered
	x.clock.Advance(100 * time.Millisecond)
	x.LeaseStep()
	if _, first := x.lessor.ending[1]; !first || len(x.lessor.ending) != 1 {
		t.Errorf("%d leases end, the first one: %v; want it alone", len(x.lessor.ending), first)
	}
	x.settle()
	x.clock.Advance(expiryPause)
	x.settle()
	x.wantLeft("afterwards")
}

func TestAReplacedStateOrLostLeadershipForgetsDeadlines(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	_, changed := x.lessor.state()
	x.lessor.reload()
	select {
	case <-changed:
	default:
		t.Error("nobody was told")
	}
	if term, _ := x.lessor.state(); term != 0 {
		t.Errorf("still the primary in term %d", term)
	}
	x.pass(5 * time.Second) // it is the primary again
	x.pass(5 * time.Second)
	x.wantLeft("at the old deadline", 1)
	x.pass(1250 * time.Millisecond)
	x.wantLeft("at the new one")
}

func TestAChosenIDIsPositiveAndTimesAreRaised(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), alone)
	cfg.TickInterval, cfg.ElectionTicks = 50*time.Millisecond, 50 // 2.5 s
	m := start(t, cfg)
	defer stop(t, m)
	for range 10 {
		l, _, err := m.LeaseGrant(t.Context(), 0, 1)
		if err != nil || l.ID <= 0 || l.TTL != 4 {
			t.Fatalf("granted %+v, %v", l, err)
		}
	}
	ids, err := m.Leases(t.Context())
	if err != nil || len(ids) != 10 {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestLeasesAreListedAsTheyWillEnd(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	for id, ttl := range map[int64]int64{1: 500, 2: 300, 3: 400} {
		if _, _, err := m.LeaseGrant(t.Context(), id, ttl); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := m.Leases(t.Context()); err != nil || fmt.Sprint(ids) != "[2 3 1]" {
		t.Errorf("got %v, %v", ids, err)
	}
	if _, err := m.LeaseRevoke(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := m.LeaseRevoke(t.Context(), 2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	if ttl, err := m.LeaseRenew(t.Context(), 3); ttl != 400 || err != nil {
		t.Errorf("renewed for %d, %v", ttl, err)
	}
	if _, err := m.LeaseRenew(t.Context(), 2); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("renewing a lease that is gone: %v", err)
	}
	st, err := m.LeaseTimeToLive(t.Context(), 1, true)
	if err != nil || st.Granted != 500 || st.Remaining != 499 || len(st.Keys) != 0 {
		t.Errorf("got %+v, %v", st, err)
	}
}

// TestRevokesOfClientsLeaveRoomForLeasesThatAreDue: a client that does nothing but revoke must not fill the queue of
// urgent proposals.
func TestRevokesOfClientsLeaveRoomForLeasesThatAreDue(t *testing.T) {
	t.Parallel()
	x := newLeased(t, vfs.NewMem(), nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	const many = 9000 // above what the queue of urgent proposals holds
	var begun atomic.Int32
	for range many {
		clients.Go(func() {
			begun.Add(1)
			if _, err := x.LeaseRevoke(ctx, 77); !errors.Is(err, context.Canceled) {
				t.Errorf("a revoke that nobody decides ended with %v", err)
			}
		})
	}
	for begun.Load() < many || x.lessor.revokes.Load() < revokesMax || x.waiting() < many {
		runtime.Gosched()
	}
	if n := x.lessor.revokes.Load(); n > revokesMax {
		t.Errorf("%d revokes are urgent", n)
	}
	p, err := x.beginUrgent(x.itself(), apply.CommandLeaseRevoke, encoded(t, &etcdserverpb.LeaseRevokeRequest{ID: 1}))
	if err != nil {
		t.Fatalf("the end of a lease that is due: %v", err)
	}
	cancel()
	clients.Wait()
	step(x.Member)
	if res, ok := p.Poll(); !ok || res.Err != nil {
		t.Errorf("it ended with %v, %v", res.Err, ok)
	}
	if n := x.lessor.revokes.Load(); n != 0 {
		t.Errorf("%d revokes are counted when none is left", n)
	}
}

// waiting returns how many proposals wait.
func (x *leased) waiting() (n int) {
	for i := range x.waiters.shards {
		s := &x.waiters.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}

func TestWithoutALeaderLeaseRequestsTimeOut(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewMem(), notAlone)
	cfg.RequestTimeout = 80 * time.Millisecond
	m := open(t, cfg)
	m.Start()
	defer stop(t, m)
	if _, err := m.LeaseRenew(t.Context(), 1); !errors.Is(err, ErrTimeout) {
		t.Errorf("a renewal: %v", err)
	}
	if _, err := m.LeaseTimeToLive(t.Context(), 1, false); !errors.Is(err, ErrTimeout) {
		t.Errorf("time to live: %v", err)
	}
	if _, err := m.Leases(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Errorf("a list: %v", err)
	}
}

func TestWhileTheDiskHangsNothingEnds(t *testing.T) {
	t.Parallel()
	var hangs atomic.Bool
	hanging, goOn := make(chan struct{}), make(chan struct{})
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isSync(op.Kind) && strings.HasPrefix(op.Path, logPath+"/") && hangs.CompareAndSwap(true, false) {
			close(hanging)
			<-goOn
		}
		return nil
	}))
	x := newLeased(t, disk, nil)
	defer stop(t, x.Member)
	x.grant(1, 10)
	hangs.Store(true)
	if _, err := x.Begin(apply.CommandPut, putRequest(t, "k", "v")); err != nil {
		t.Fatal(err)
	}
	x.node.Turn()
	written := make(chan struct{})
	go func() { x.node.AppendTurn(); close(written) }()
	<-hanging
	for range 60 {
		x.clock.Advance(250 * time.Millisecond)
		x.node.Turn()
		x.LeaseStep()
		if n := len(x.lessor.ending); n > 0 {
			t.Fatalf("%d leases end while the disk hangs", n)
		}
	}
	if ttl, err := x.renewWithoutDisk(1); ttl != 10 || err != nil {
		t.Errorf("a renewal meanwhile: %d, %v", ttl, err)
	}
	close(goOn)
	<-written
	x.settle()
	x.wantLeft("when the disk goes on", 1)
	x.pass(10 * time.Second)
	x.wantLeft("ten seconds later")
}

// renewWithoutDisk renews a lease without a turn of the append loop.
func (x *leased) renewWithoutDisk(id int64) (int64, error) {
	r := x.BeginLeaseRenew(id)
	x.node.Turn()
	ttl, _, err := r.Poll()
	return ttl, err
}
