package member

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/consensus"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

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
	if n := x.Measures().LeasesExpired.Value(); n != 2 {
		t.Errorf("%d were counted", n)
	}
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
	if _, err := x.submit(x.ids.next(), 0, consensus.Proposal{Data: encoded(t, cc), ConfChange: true}); err != nil {
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
	x.clock.Advance(500 * time.Millisecond)
	if _, err := x.Begin(apply.CommandAlarm, encoded(t, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: uint64(x.self()), Alarm: etcdserverpb.AlarmType_CORRUPT,
	})); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the alarm is in the log, and not applied
		x.node.Turn()
		x.node.AppendTurn()
	}
	x.LeaseStep() // it asks whether it leads
	x.node.Turn() // and is answered
	x.LeaseStep()
	if n := x.lessor.underWay(); n != 3 {
		t.Fatalf("%d leases are on their way to their end", n)
	}
	x.settle() // the alarm is applied before the ends, which it refuses
	if n := x.lessor.underWay(); n != 0 {
		t.Errorf("%d leases are on their way to their end with the alarm", n)
	}
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
	// While something is committed and not applied, even the only voter takes a turn for its answer.
	if _, err := x.Begin(apply.CommandPut, putRequest(t, "k", "v")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x.node.Turn()
		x.node.AppendTurn()
	}
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
