package consensus

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// ask is a follower's question for a linearizable read.
func (f *fixture) ask(from uint64, context string) {
	f.Step(&raftpb.Message{Type: raftpb.MsgReadIndex.Enum(), From: proto.Uint64(from), To: proto.Uint64(1),
		Entries: []*raftpb.Entry{{Data: []byte(context)}}})
}

// rounds returns the contexts of the heartbeats that one follower was sent, and forgets them.
func (f *fixture) rounds() (contexts [][]byte) {
	for _, m := range f.sent {
		if m.GetType() == raftpb.MsgHeartbeat && m.GetTo() == 2 && len(m.GetContext()) > 0 {
			contexts = append(contexts, m.GetContext())
		}
	}
	f.sent = nil
	return contexts
}

// confirmRound is a follower's answer to a heartbeat with a context.
func (f *fixture) confirmRound(context []byte) {
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1),
		Term: proto.Uint64(f.Term()), Context: context})
	f.run()
}

// answers returns what others were answered, and forgets it.
func (f *fixture) answers() (contexts []string) {
	for _, m := range f.sent {
		if m.GetType() != raftpb.MsgReadIndexResp {
			continue
		}
		if m.GetIndex() != f.Committed() || m.GetTerm() != f.Term() || m.GetFrom() != 1 {
			f.t.Errorf("answered %v with %d committed in term %d", m, f.Committed(), f.Term())
		}
		contexts = append(contexts, string(m.GetEntries()[0].GetData()))
	}
	slices.Sort(contexts)
	return contexts
}

// TestOneRoundConfirmsTheReadsOfAllMembers: a leader has one round of heartbeats under way, for its own reads and what others ask;
// what comes meanwhile is confirmed by the next one, which begins after it came.
func TestOneRoundConfirmsTheReadsOfAllMembers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.ask(2, "2a")
	f.ask(3, "3a")
	own := f.BeginRead()
	f.run()
	first := f.rounds()
	if len(first) != 1 {
		t.Fatalf("%d rounds for three questions that came together", len(first))
	}
	f.ask(2, "2b")
	f.ask(3, "3b")
	late := f.BeginRead()
	f.run()
	if more := f.rounds(); len(more) != 0 {
		t.Fatalf("%d rounds began beside the first", len(more))
	}
	f.confirmRound(first[0])
	if got := f.answers(); !slices.Equal(got, []string{"2a", "3a"}) {
		t.Errorf("the first round answered %q", got)
	}
	f.mustBe(own, true)
	f.mustBe(late, false)
	second := f.rounds()
	if len(second) != 1 {
		t.Fatalf("%d rounds began after the first", len(second))
	}
	f.confirmRound(second[0])
	if got := f.answers(); !slices.Equal(got, []string{"2b", "3b"}) {
		t.Errorf("the second round answered %q", got)
	}
	f.mustBe(late, true)
}

// TestALeaderThatIsDeposedAnswersNobody: what was asked of it is forgotten.
func TestALeaderThatIsDeposedAnswersNobody(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.ask(2, "under way")
	f.run()
	round := f.rounds()
	f.ask(3, "waits")
	f.run()
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(f.Term() + 1)})
	f.run()
	if f.IsLeader() || len(round) != 1 {
		t.Fatalf("it still leads, or began %d rounds", len(round))
	}
	f.confirmRound(round[0])
	f.BeginRead()
	f.run()
	if got := f.answers(); len(got) != 0 || len(f.reads.asked) != 0 {
		t.Errorf("answered %q; %d questions wait", got, len(f.reads.asked))
	}
}

// TestQuestionsOfOthersAreBounded: whoever gets no answer asks again.
func TestQuestionsOfOthersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	f.ask(2, "first")
	f.run()
	for range 2 {
		for range questionsMax {
			f.ask(2, "x")
		}
		f.run()
	}
	if got := len(f.reads.asked); got != questionsMax {
		t.Errorf("%d questions wait", got)
	}
}

func (f *fixture) mustBe(b *ReadBatch, want bool) {
	f.t.Helper()
	if got := decided(b); got != want || got && b.Err() != nil {
		f.t.Errorf("decided is %v, want %v", got, want)
	}
}

// TestTheNextRoundWaitsForTheReadersOfTheOneBefore: until all of them have gone on, whether they read or gave up.
func TestTheNextRoundWaitsForTheReadersOfTheOneBefore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	first := f.beginRead(1, f.inbox.signal)
	f.run()
	f.confirmRound(f.rounds()[0])
	f.mustBe(first, true)
	late := f.BeginRead()
	f.run()
	if got := f.rounds(); len(got) != 0 {
		t.Fatalf("%d rounds began while a reader had not gone on", len(got))
	}
	first.readers.Add(-1)
	f.run()
	got := f.rounds()
	if len(got) != 1 {
		t.Fatalf("%d rounds began after it", len(got))
	}
	f.confirmRound(got[0])
	f.mustBe(late, true)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.ReadBarrier(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader that gave up: %v", err)
	}
	if f.inbox.gathering.readers.Load() != 0 {
		t.Error("a reader that gave up is still counted")
	}
}

// wakes counts how often it is woken.
type wakes int

func (w *wakes) Wake() { *w++ }

func TestWhoeverIsToldOfAReadIsWokenOnce(t *testing.T) {
	t.Parallel()
	b := newReadBatch()
	var early, late, other, after wakes
	b.Tell(&early, true)
	b.Tell(&late, false)
	b.Tell(&late, false)
	b.Tell(&other, false)
	if b.confirm(); early != 1 || late != 0 {
		t.Errorf("confirmed: early %d, late %d", early, late)
	}
	if b.finish(nil); early != 1 || late != 1 || other != 1 {
		t.Errorf("done: early %d, late %d, other %d", early, late, other)
	}
	b.Tell(&after, true)
	b.Tell(&after, false)
	if after != 2 {
		t.Errorf("after the end it was woken %d times, want once each", after)
	}
}

func TestAReadThatBeginsAfterTheEndFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, vfs.NewMem(), 1, 2, 3)
	f.elect()
	before := f.BeginRead()
	f.Stop()
	after := f.BeginRead()
	for name, b := range map[string]*ReadBatch{"before": before, "after": after} {
		var w wakes
		if b.Tell(&w, false); w != 1 || !errors.Is(b.Failed(), ErrStopped) {
			t.Errorf("%s the stop: woken %d times, %v", name, w, b.Failed())
		}
	}
}

// TestNoReadWaitsForALoopThatHasEnded: those that wait when the loop ends, and those that come later, fail.
func TestNoReadWaitsForALoopThatHasEnded(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(f *fixture){
		"stopped": func(f *fixture) { f.Stop() },
		"failed":  func(f *fixture) { f.Node.fatal(errors.New("broken")) },
	} {
		f := newFixture(t, vfs.NewMem(), 1, 2, 3)
		f.Start()
		const each = 10
		ends := make(chan error, 2*each)
		for range each {
			go func() { ends <- f.ReadBarrier(context.Background()) }()
		}
		end(f)
		for range each {
			go func() { ends <- f.ReadBarrier(context.Background()) }()
		}
		for range cap(ends) {
			if err := <-ends; !errors.Is(err, ErrStopped) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}
