package consensus

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// recorder is the smallest state machine: it remembers what it was given.
type recorder struct {
	data    []string
	groups  []int
	changes []uint64
	refuse  bool
}

func (r *recorder) Apply(entries []*raftpb.Entry) error {
	r.groups = append(r.groups, len(entries))
	for _, e := range entries {
		if len(e.GetData()) > 0 {
			r.data = append(r.data, string(e.GetData()))
		}
	}
	return nil
}

func (r *recorder) CheckConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		return nil, err
	}
	if r.refuse {
		cc.NodeId = proto.Uint64(0)
	}
	return &cc, nil
}

func (r *recorder) FinishConfChange(_ *raftpb.Entry, cc *raftpb.ConfChange, _ *raftpb.ConfState) error {
	r.changes = append(r.changes, cc.GetNodeId())
	return nil
}

func (r *recorder) Install(*raftpb.Snapshot, func(uint64) error) error { return errors.ErrUnsupported }
func (r *recorder) SnapshotDecided(uint64, bool)                       {}
func (r *recorder) SendSnapshot(*raftpb.Message)                       {}

// fixture is a node whose loops the test steps itself.
type fixture struct {
	*Node
	t     *testing.T
	sm    *recorder
	fatal error
	sent  []*raftpb.Message
}

// newFixture founds a cluster of the given voters; the node is member 1.
func newFixture(t *testing.T, fs vfs.FS, voters ...uint64) *fixture {
	t.Helper()
	return newFixtureOf(t, fs, 0, voters...)
}

// newFixtureOf has room in raft for so many bytes that are not applied, 0 for the usual bound.
func newFixtureOf(t *testing.T, fs vfs.FS, uncommitted uint64, voters ...uint64) *fixture {
	t.Helper()
	f := &fixture{t: t, sm: &recorder{}}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	c := clock.NewManual(time.Unix(0, 0))
	log, err := raftlog.Open("log", raftlog.Options{
		Clock:   c,
		Storage: storage.Options{FS: fs, Logger: quiet, Fatal: func(err error) { f.fatal = err }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() }) // a test may have broken its disk
	entries := make([]*raftpb.Entry, len(voters))
	for i, id := range voters {
		cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(id)}
		data, err := proto.Marshal(cc)
		if err != nil {
			t.Fatal(err)
		}
		entries[i] = &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(1), Index: proto.Uint64(uint64(i + 1)), Data: data,
		}
	}
	hs := raftlog.HardState{Term: 1, Commit: uint64(len(entries))}
	id := storage.Identity{Format: 1, ClusterID: 9, MemberID: 1}
	if err := log.Bootstrap(id, hs, entries, 1); err != nil {
		t.Fatal(err)
	}
	f.Node, err = New(Config{
		ID: 1, Log: log, Machine: f.sm, ElectionTicks: 10, HeartbeatTicks: 1, TickInterval: time.Second,
		PreVote: true, ReadTimeoutTicks: 30, Clock: c, Logger: quiet,
		Send: func(ms []*raftpb.Message) { f.sent = append(f.sent, ms...) },
		Fatal: func(err error) {
			if f.fatal == nil {
				f.fatal = err
			}
		},
		uncommittedBytes: uncommitted,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Stop)
	return f
}

// run steps all loops until none has anything to do.
func (f *fixture) run() {
	for busy := true; busy; {
		busy = f.Turn()
		busy = f.AppendTurn() || busy
		busy = f.ApplyTurn() || busy
	}
}

func (f *fixture) propose(data string) (failed *error) {
	f.t.Helper()
	failed = new(error)
	if err := f.Propose(&Proposal{Data: []byte(data), Fail: func(err error) { *failed = err }}); err != nil {
		f.t.Fatal(err)
	}
	return failed
}

func decided(b *ReadBatch) bool {
	select {
	case <-b.Done():
		return true
	default:
		return false
	}
}

func TestASoleVoterLeadsAtOnceAndAppliesInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	if !f.IsLeader() {
		t.Fatal("the only member does not lead")
	}
	for _, d := range []string{"a", "b", "c"} {
		f.propose(d)
	}
	f.run()
	if got := f.sm.data; len(got) != 3 || got[0] != "a" || got[2] != "c" {
		t.Errorf("applied %q, want a, b, c", got)
	}
	if last := f.sm.groups[len(f.sm.groups)-1]; last != 3 {
		t.Errorf("proposals that waited together were applied in groups %v, want one of 3 at the end", f.sm.groups)
	}
	if f.Applied() != f.Committed() {
		t.Errorf("applied %d of %d", f.Applied(), f.Committed())
	}
}

func TestProposalsWaitForALeaderAndThenGo(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.propose("early")
	f.run()
	if len(f.sm.data) != 1 {
		t.Errorf("a proposal made before there was a leader was not applied: %q", f.sm.data)
	}
}

// TestAProposalNobodyWaitsForIsThrownAway, and the one behind it goes to the leader.
func TestAProposalNobodyWaitsForIsThrownAway(t *testing.T) {
	t.Parallel()
	data := func(c *raftpb.Entry) []byte { return c.GetData() }
	for name, c := range map[string]struct {
		change       bool
		gone, wanted []byte
	}{
		"a request": {false, []byte("gone"), []byte("wanted")},
		"a change of the configuration": {
			true, data(change(t, raftpb.ConfChangeAddNode, 3)), data(change(t, raftpb.ConfChangeAddNode, 4))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, vfs.NewMem(), 1, 2)
			f.run()
			for _, p := range []struct {
				data []byte
				gone bool
			}{{c.gone, true}, {c.wanted, false}} {
				if err := f.Propose(&Proposal{Data: p.data, ConfChange: c.change, Cancelled: func() bool { return p.gone }}); err != nil {
					t.Fatal(err)
				}
			}
			f.run()
			f.hear(2)
			var sent []string
			for _, m := range f.sent {
				for _, e := range m.GetEntries() {
					if m.GetType() == raftpb.MsgProp {
						sent = append(sent, string(e.GetData()))
					}
				}
			}
			if want := []string{string(c.wanted)}; !slices.Equal(sent, want) {
				t.Errorf("the leader was sent %q, want %q", sent, want)
			}
		})
	}
}

func TestTheQueueOfProposalsIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	for range proposalsMax {
		f.propose("x")
	}
	if err := f.Propose(&Proposal{Data: []byte("x")}); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("got %v, want ErrTooManyRequests", err)
	}
}

func TestTooManyUnappliedEntriesRefuseProposals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.committed.Store(f.Applied() + unappliedMax + 1)
	if err := f.Propose(&Proposal{Data: []byte("x")}); !errors.Is(err, ErrTooManyRequests) {
		t.Errorf("got %v, want ErrTooManyRequests", err)
	}
}

func TestReadsThatWaitTogetherShareOneReadIndex(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	a, b := f.BeginRead(), f.BeginRead() // nobody leads yet
	if a != b {
		t.Error("two reads that wait are in different batches")
	}
	counter := f.reads.counter
	f.run()
	if !decided(a) || a.Err() != nil {
		t.Errorf("decided %v, error %v", decided(a), a.Err())
	}
	if f.reads.counter != counter+1 {
		t.Errorf("%d questions for one batch", f.reads.counter-counter)
	}
}

func TestAReadWaitsUntilWhatWasCommittedBeforeItIsApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.propose("x")
	for f.Turn() || f.AppendTurn() { // everything but apply
	}
	b := f.BeginRead()
	for f.Turn() || f.AppendTurn() {
	}
	if decided(b) {
		t.Fatal("the read went on before the entry was applied")
	}
	f.run()
	if !decided(b) || b.Err() != nil {
		t.Errorf("decided %v, error %v", decided(b), b.Err())
	}
}

func TestReadsWithoutALeaderEndAfterATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	b := f.BeginRead()
	for range 40 {
		f.Tick()
		f.run()
	}
	if !decided(b) || !errors.Is(b.Err(), ErrReadTimeout) {
		t.Errorf("decided %v, error %v; want ErrReadTimeout", decided(b), b.Err())
	}
}

func TestEndedReadsFailAndOthersAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.propose("x")
	for f.Turn() || f.AppendTurn() { // everything but apply
	}
	confirmed := f.BeginRead()
	for f.Turn() || f.AppendTurn() {
	}
	gathering := f.BeginRead()
	f.EndReads()
	f.Turn()
	for name, b := range map[string]*ReadBatch{"confirmed and not applied": confirmed, "not asked yet": gathering, "after the end": f.BeginRead()} {
		if !decided(b) || !errors.Is(b.Err(), ErrStopped) {
			t.Errorf("%s: decided %v, error %v; want ErrStopped", name, decided(b), b.Err())
		}
	}
	f.run()
}

func TestStopEndsWhatWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	failed := f.propose("x")
	b := f.BeginRead()
	f.Stop()
	if !errors.Is(*failed, ErrStopped) {
		t.Errorf("the proposal ended with %v", *failed)
	}
	if !decided(b) || !errors.Is(b.Err(), ErrStopped) {
		t.Errorf("the read ended with %v", b.Err())
	}
	if err := f.Propose(&Proposal{}); !errors.Is(err, ErrStopped) {
		t.Errorf("a later proposal got %v", err)
	}
}

func TestARefusedConfigurationChangeLeavesTheVotersAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.sm.refuse = true
	cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(7)}
	data, err := proto.Marshal(cc)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Propose(&Proposal{Data: data, ConfChange: true}); err != nil {
		t.Fatal(err)
	}
	f.propose("after")
	f.run()
	if n := len(f.rn.Status().Config.Voters.IDs()); n != 1 {
		t.Errorf("%d voters after a refused change", n)
	}
	if len(f.sm.data) != 1 {
		t.Errorf("applied %q: entries after the change are missing", f.sm.data)
	}
}

// TestASoleVoterReadsNothingBeforeItsOwnTermHasCommitted: after a restart the stored commit index may be behind what
// was acknowledged, and raft answers a sole voter's ReadIndex at once.
func TestASoleVoterReadsNothingBeforeItsOwnTermHasCommitted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	b := f.BeginRead()
	for f.Turn() || f.ApplyTurn() || !f.IsLeader() && f.AppendTurn() {
	}
	if !f.IsLeader() {
		t.Fatal("the only member does not lead")
	}
	if decided(b) {
		t.Fatal("a read was answered before the first entry of the term was committed")
	}
	f.run()
	if !decided(b) || b.Err() != nil {
		t.Errorf("decided %v, error %v", decided(b), b.Err())
	}
}

func TestUrgentProposalsGoFirstAndAreNotRefusedForOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	for range proposalsMax {
		f.propose("client")
	}
	if err := f.Propose(&Proposal{Data: []byte("client")}); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("one more than the bound: %v", err)
	}
	for range urgentMax {
		if err := f.Propose(&Proposal{Data: []byte("urgent"), Urgent: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Propose(&Proposal{Data: []byte("urgent"), Urgent: true}); !errors.Is(err, ErrTooManyRequests) {
		t.Fatalf("one more than the bound of urgent ones: %v", err)
	}
	f.run()
	for i, d := range f.sm.data {
		if urgent := i < urgentMax; (d == "urgent") != urgent {
			t.Fatalf("entry %d is %s", i, d)
		}
	}
	if n := len(f.sm.data); n != urgentMax+proposalsMax {
		t.Errorf("%d entries", n)
	}
}

func TestAReadIsConfirmedBeforeItsIndexIsApplied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	f.run()
	f.propose("a")
	for range 3 {
		f.Turn()
		f.AppendTurn()
	}
	b := f.BeginRead()
	f.Turn()
	select {
	case <-b.Confirmed():
	default:
		t.Error("the leader has not answered")
	}
	if decided(b) || b.Failed() != nil {
		t.Error("it is decided before the entry is applied")
	}
	f.run()
	if !decided(b) || b.Err() != nil {
		t.Errorf("in the end: %v", b.Err())
	}
	f.propose("b")
	for range 3 {
		f.Turn()
		f.AppendTurn()
	}
	b = f.BeginRead()
	f.Stop()
	<-b.Confirmed()
	if !errors.Is(b.Failed(), ErrStopped) {
		t.Errorf("after the end: %v", b.Failed())
	}
}

// TestASoleVoterAnswersNobodyBeforeItHasCommittedInItsTerm: what it knows to be committed may be behind what was acknowledged
// before a restart, and raft would answer a learner from that.
func TestASoleVoterAnswersNobodyBeforeItHasCommittedInItsTerm(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1)
	ask := func() {
		f.Step(&raftpb.Message{Type: raftpb.MsgReadIndex.Enum(), From: proto.Uint64(2), To: proto.Uint64(1),
			Entries: []*raftpb.Entry{{Data: []byte("question")}}})
	}
	answers := func() (indexes []uint64) {
		for _, m := range f.sent {
			if m.GetType() == raftpb.MsgReadIndexResp {
				indexes = append(indexes, m.GetIndex())
			}
		}
		return indexes
	}
	for range 100 {
		if f.leadsNow() != 0 {
			break
		}
		f.Turn()
		f.ApplyTurn()
		if f.leadsNow() == 0 {
			f.AppendTurn()
		}
	}
	if f.leadsNow() == 0 || f.mayAsk() {
		t.Fatal("it does not lead, or has committed already")
	}
	ask()
	f.Turn()
	if got := answers(); len(got) > 0 {
		t.Errorf("answered from %d before an entry of the term was committed", got)
	}
	f.run()
	ask()
	f.run()
	// The first question was kept until then.
	if got, want := answers(), []uint64{f.committed.Load(), f.committed.Load()}; !slices.Equal(got, want) {
		t.Errorf("answered from %d, want %d", got, want)
	}
}
