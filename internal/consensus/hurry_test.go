package consensus

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// waits says whether the raft loop, which does not run here, was told that something waits for it, and forgets it.
func (f *fixture) waits() bool {
	select {
	case <-f.inbox.wake:
		return true
	default:
		return false
	}
}

// hurried makes a leader of two members whose raft loop was told nothing.
func hurried(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, vfs.NewMem(), 1, 2)
	f.elect()
	f.started.Store(true) // but for the loops
	f.waits()
	return f
}

// TestALoneRequestTakesItsTurnItself: nobody is woken for it, unless there is a crowd, or somebody takes turns already.
func TestALoneRequestTakesItsTurnItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before    func(f *fixture)
		mayTurn   bool
		wantTaken bool
	}{
		"alone":                        {func(*fixture) {}, true, true},
		"its proposer may hold a lock": {func(*fixture) {}, false, false},
		"among others":                 {func(f *fixture) { f.crowd.note(crowdMin) }, true, false},
		"the raft loop is at work":     {func(f *fixture) { f.turning.Lock() }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := hurried(t)
			c.before(f)
			if err := f.Propose(&Proposal{Data: []byte("a"), MayTurn: c.mayTurn}); err != nil {
				t.Fatal(err)
			}
			if got := len(f.appends()) == 1; got != c.wantTaken {
				t.Errorf("it was sent by who proposed it: %v, want %v", got, c.wantTaken)
			}
			if got := f.waits(); got == c.wantTaken {
				t.Errorf("the raft loop was woken: %v, want %v", got, !c.wantTaken)
			}
			f.turning.TryLock()
			f.turning.Unlock()
		})
	}
}

// TestACrowdIsForgotten when none was seen for a tick. Entries of an append are one, and readers.
func TestACrowdIsForgotten(t *testing.T) {
	t.Parallel()
	for name, come := range map[string]func(f *fixture){
		"entries": func(f *fixture) {
			f.propose("a")
			f.propose("b")
		},
		"readers": func(f *fixture) {
			f.beginRead(1, f.inbox.signal)
			f.beginRead(1, f.inbox.signal)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := hurried(t)
			if f.crowd.present() {
				t.Fatal("there is a crowd before anything came")
			}
			come(f)
			f.run()
			for tick, want := range []bool{true, true, false} {
				if got := f.crowd.present(); got != want {
					t.Errorf("after %d ticks there is a crowd: %v, want %v", tick, got, want)
				}
				f.Tick()
				f.run()
			}
		})
	}
}

// TestAStateThatComesIsLeftToTheRaftLoop, since who brings it may hold what SnapshotDecided waits for.
func TestAStateThatComesIsLeftToTheRaftLoop(t *testing.T) {
	t.Parallel()
	f := hurried(t)
	f.Step(&raftpb.Message{Type: raftpb.MsgSnap.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(1),
		Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(99), Term: proto.Uint64(1)}}})
	if !f.waits() || len(f.inbox.take(false).messages) != 1 {
		t.Error("it was taken by who brought it")
	}
}

// TestTheLastReaderOfABatchWakesTheNext, and nobody when there is none.
func TestTheLastReaderOfABatchWakesTheNext(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]bool{"somebody waits": true, "nobody waits": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := hurried(t)
			first := f.beginRead(1, f.inbox.signal)
			f.run()
			f.confirmRound(f.rounds()[0])
			if !decided(first) {
				t.Fatal("the first batch is not decided")
			}
			if next {
				f.beginRead(1, f.inbox.signal)
				f.run()
			}
			f.waits()
			f.wentOn(first)
			if got := f.waits(); got != next {
				t.Errorf("the raft loop was woken: %v, want %v", got, next)
			}
		})
	}
}

// TestNoTurnIsTakenAfterStop although somebody still has something for one.
func TestNoTurnIsTakenAfterStop(t *testing.T) {
	t.Parallel()
	f := hurried(t)
	f.Stop()
	f.sent = nil
	f.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(9)})
	if len(f.sent) != 0 || f.Term() == 9 {
		t.Error("a message was taken after Stop")
	}
	if err := f.ReadBarrier(context.Background()); err == nil {
		t.Error("a read went on after Stop")
	}
}
