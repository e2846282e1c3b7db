package sim

import (
	"fmt"
	"syscall"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// TestAMemberWhoseDiskFailsEndsAndTheOthersGoOn at whichever operation, of the log, the state or both. All that was answered is there when it is back.
func TestAMemberWhoseDiskFailsEndsAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	for name, pick := range map[string]func(*World) *host{"the leader": (*World).leader, "a follower": (*World).follower} {
		for i := range 12 {
			b := breakage{log: i%3 != 1, state: i%3 != 0, once: i/3%2 == 0, syncs: i/6 == 0, err: syscall.EIO}
			t.Run(fmt.Sprintf("%s: %s", name, b), func(t *testing.T) {
				t.Parallel()
				for after := range 4 {
					w := newWorld(t, 1, 3)
					w.write(5)
					h := pick(w)
					h.disk.arm(b, after)
					for round := 0; h.failure() == nil && !h.disk.spared(); round++ {
						if round > 1_000 {
							w.fail("member %d goes on: %s", h.n, h.disk.first)
						}
						w.stepTick()
						w.stepRequest()
						w.runHosts(100)
						h.failedTo("flush", h.m.Flush())
					}
					before := w.history.acknowledged
					w.endAiling(true)
					if h.m != nil {
						t.Fatal("it is still there")
					}
					w.write(5)
					for w.history.acknowledged == before {
						w.write(1)
					}
					w.Settle()
					w.CheckStates()
					w.stopAll()
				}
			})
		}
	}
}

// TestNothingIsToldThatAFailedWriteHasNotStored: the network repeats entries while their write fails, and the answer to that needs no write.
func TestNothingIsToldThatAFailedWriteHasNotStored(t *testing.T) {
	t.Parallel()
	for _, syncs := range []bool{false, true} {
		w := newWorld(t, 1, 3)
		w.write(5)
		l, h := w.leader(), w.follower()
		var entries *message
		for i := 0; entries == nil; i++ {
			if i > 1_000 {
				w.fail("no entries are sent to member %d", h.n)
			}
			w.ask(l, w.randomWrite())
			l.turn(0)
			for _, p := range w.network.queue {
				if p.to == h && p.m.GetType() == raftpb.MsgApp && p.m.GetIndex() == h.m.Log().LastIndex() && len(p.m.GetEntries()) > 0 {
					entries = p.m
				}
			}
		}
		receive := func() {
			h.m.Node().Step(copyMessage(entries))
			h.turn(0)
		}
		before := h.promise
		h.disk.arm(breakage{log: true, syncs: syncs, err: syscall.EIO}, 0)
		h.disk.met = receive
		receive()
		for range 2 { // it may be told once more
			h.turn(1)
		}
		if h.failure() == nil || h.promise != before {
			t.Errorf("it has ended for %v, and has told of %+v after %+v", h.failure(), h.promise, before)
		}
		w.endAiling(true)
		w.Settle()
		w.CheckStates()
		w.stopAll()
	}
}
