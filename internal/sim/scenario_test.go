package sim

import (
	"errors"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/member"
)

// newWorld starts a cluster and lets it elect a leader.
func newWorld(t *testing.T, seed int64, members int) *World {
	t.Helper()
	w := New(t, seed, members)
	for _, h := range w.hosts {
		h.start()
	}
	t.Cleanup(w.stopAll)
	w.Settle()
	return w
}

// write has n writes answered.
func (w *World) write(n int) {
	for range n {
		for before := w.history.applied; w.history.applied == before; {
			w.stepTick() // what the network lost is sent again in time
			w.stepRequest()
			w.runHosts(100)
		}
	}
}

// runHosts lets all members that are up do what they can, and the network deliver.
func (w *World) runHosts(rounds int) {
	for range rounds {
		busy := len(w.network.queue) > 0
		for range len(w.network.queue) {
			w.network.deliver()
		}
		for _, h := range w.hosts {
			for loop := 0; h.m != nil && !h.paused && loop < 3; loop++ {
				busy = h.turn(loop) || busy
				w.check()
			}
		}
		w.stepAnswers()
		if !busy {
			return
		}
	}
}

func (w *World) leader() *host {
	for _, h := range w.hosts {
		if h.m != nil && h.m.Node().IsLeader() {
			return h
		}
	}
	w.fail("there is no leader")
	return nil
}

func (w *World) follower() *host {
	l := w.leader()
	for _, h := range w.hosts {
		if h != l && h.m != nil {
			return h
		}
	}
	w.fail("there is no follower")
	return nil
}

// leaveBehind stops a follower and writes until the others have cut their logs above
// what it has, so that only a snapshot can bring it up.
func (w *World) leaveBehind() *host {
	h := w.follower()
	h.stop(0)
	w.write(30)
	for _, o := range w.hosts {
		if o.m != nil {
			if err := errors.Join(o.m.Flush(), o.m.CutLog()); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	h.start()
	return h
}

// untilSnapshotArrives runs the cluster until h was sent a snapshot, which stays in
// the network's queue.
func (w *World) untilSnapshotArrives(h *host) packet {
	for range 2_000 {
		w.stepTick()
		for _, o := range w.hosts {
			for loop := range 3 {
				for o.turn(loop) {
					w.check()
				}
			}
		}
		for i, p := range w.network.queue {
			if p.to == h && p.state != nil {
				w.network.queue = append(w.network.queue[:i], w.network.queue[i+1:]...)
				return p
			}
		}
		for range len(w.network.queue) {
			w.network.deliver()
		}
	}
	w.fail("no snapshot was sent to member %d", h.n)
	return packet{}
}

func TestAFollowerTooFarBehindIsBroughtUpByASnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 3)
	h := w.leaveBehind()
	w.Settle()
	if h.m.Log().Mark().Generation == 1 {
		t.Error("the follower has caught up without a snapshot")
	}
	w.CheckStates()
}

// cutAll has all members that are up flush their states and cut their logs.
func (w *World) cutAll() {
	for _, h := range w.hosts {
		if h.m == nil {
			continue
		}
		if err := errors.Join(h.m.Flush(), h.m.CutLog()); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestAMemberThatWasAwayGetsTheLogInPlaceOfASnapshot: from the leader that knew what it had, and, when it led itself, from one that was
// only connected with it. Both may have been started anew meanwhile.
func TestAMemberThatWasAwayGetsTheLogInPlaceOfASnapshot(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		leaves  func(*World) *host
		restart bool
	}{
		"a follower":                               {(*World).follower, false},
		"the leader":                               {(*World).leader, false},
		"a follower, and the others start anew":    {(*World).follower, true},
		"the leader, and then the others do again": {(*World).leader, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := New(t, 1, 3)
			w.keepLog = 3
			for _, h := range w.hosts {
				h.start()
			}
			t.Cleanup(w.stopAll)
			w.Settle()
			w.write(30)
			w.cutAll()
			w.cutAll() // by what is on the disk then
			for _, h := range w.hosts {
				if at := h.m.Log().Mark().Index; at == 0 {
					t.Errorf("while all are there the log of member %d is cut at %d", h.n, at)
				}
			}
			h := c.leaves(w)
			h.stop(0)
			w.write(15)
			w.cutAll()
			for _, o := range w.hosts {
				if c.restart && o != h {
					o.stop(50)
					o.start()
					w.write(5)
					w.cutAll()
				}
			}
			w.write(15)
			w.cutAll()
			h.start()
			w.Settle()
			w.CheckStates()
			if g := h.m.Log().Mark().Generation; g != 1 || w.network.received > 0 {
				t.Errorf("member %d is at generation %d, after %d snapshots", h.n, g, w.network.received)
			}
			w.write(5)
			w.cutAll()
			w.Settle()
			w.cutAll()
			for _, o := range w.hosts {
				if kept := o.m.Log().LastIndex() - o.m.Log().Mark().Index; kept > 10 {
					t.Errorf("once it is back the log of member %d still has %d entries", o.n, kept)
				}
			}
		})
	}
}

func TestASnapshotUnderWayIsNotReplacedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, 3)
	h := w.leaveBehind()
	p := w.untilSnapshotArrives(h)
	receive := func() error { return h.m.ReceiveSnapshot(copyMessage(p.m), newState(p)) }
	if err := receive(); err != nil {
		t.Fatal(err)
	}
	h.m.Node().Turn() // raft takes it; it is not installed yet
	if err := receive(); !errors.Is(err, member.ErrSnapshotBusy) {
		t.Errorf("got %v, want ErrSnapshotBusy", err)
	}
	w.leader().m.Node().ReportSnapshot(h.m.ID(), true)
	w.Settle()
	w.CheckStates()
}

// TestAPowerCutAtAnyWriteOfAnInstallation cuts the power before each write that receiving and installing a snapshot
// makes, in the log, in both states and in the directories above them.
func TestAPowerCutAtAnyWriteOfAnInstallation(t *testing.T) {
	t.Parallel()
	for _, unsynced := range []int{0, 50, 100} {
		for n, last := 0, false; !last; n++ {
			w := newWorld(t, int64(n+1), 3)
			h := w.leaveBehind()
			p := w.untilSnapshotArrives(h)
			h.power.arm(h.fs, n, h.crash(unsynced))
			if err := h.m.ReceiveSnapshot(p.m, newState(p)); err != nil {
				t.Fatal(err)
			}
			for range 10 {
				for loop := range 3 {
					h.turn(loop)
					w.check()
				}
			}
			last = h.power.writes() <= n
			w.note("the power of member %d fails before write %d, %d %% of what was not synced survives", h.n, n, unsynced)
			h.stop(100 - unsynced)
			w.leader().m.Node().ReportSnapshot(h.hostID, false)
			w.Settle()
			w.CheckStates()
			w.stopAll()
			if last && n < 20 {
				t.Errorf("an installation made only %d writes: the test sees too little", n)
			}
		}
	}
}

func TestWhatWasAnsweredSurvivesAPowerCutOfAll(t *testing.T) {
	t.Parallel()
	for seed := range int64(5) {
		w := newWorld(t, seed, 3)
		w.write(20)
		w.stepBlackout()
		w.Settle()
		w.CheckStates()
		if w.history.model.revision < w.history.acknowledged {
			t.Errorf("revision %d was acknowledged, the cluster is at %d", w.history.acknowledged, w.history.model.revision)
		}
	}
}

// TestALogIsNotCutBeforeTheReceiverOfASnapshotHasIt: the state takes its time to arrive and to be built, and the others go on
// writing, flushing and cutting.
func TestALogIsNotCutBeforeTheReceiverOfASnapshotHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, 3)
	h := w.leaveBehind()
	p := w.untilSnapshotArrives(h)
	l := w.leader()
	w.write(60)
	if err := errors.Join(l.m.Flush(), l.m.CutLog()); err != nil {
		t.Fatal(err)
	}
	if err := h.m.ReceiveSnapshot(copyMessage(p.m), newState(p)); err != nil {
		t.Fatal(err)
	}
	before := w.network.received
	for range 3 {
		h.m.Node().Turn()
	}
	l.m.Node().ReportSnapshot(h.m.ID(), true)
	w.Settle()
	w.CheckStates()
	if h.m.Log().Mark().Generation != 2 || w.network.received != before {
		t.Errorf("member %d is at generation %d after %d more snapshots: one should have been enough",
			h.n, h.m.Log().Mark().Generation, w.network.received-before)
	}
}
