package sim

import "fmt"

// step is one thing that may happen, with its weight among the others.
type step struct {
	name   string
	weight int
	run    func(*World)
}

// steps is the world's vocabulary. Later features add theirs here.
var steps = []step{
	{"turn", 3_000, (*World).stepTurn},
	{"deliver", 3_000, func(w *World) { w.network.deliver() }},
	{"tick", 300, (*World).stepTick},
	{"request", 400, (*World).stepRequest},
	{"answers", 300, (*World).stepAnswers},
	{"flush", 20, (*World).stepFlush},
	{"cut the log", 30, (*World).stepCut},
	{"seal the log", 30, (*World).stepSeal},
	{"compact a slice", 10, (*World).stepCompact},
	{"kill", 2, func(w *World) { w.stepCrash(0) }},
	{"power cut", 2, func(w *World) { w.stepCrash([]int{100, 70, 30}[w.rng.Intn(3)]) }},
	{"power cut of all", 1, (*World).stepBlackout},
	{"restart", 8, (*World).stepRestart},
	{"pause", 2, (*World).stepPause},
	{"go on", 8, (*World).stepGoOn},
	{"stall a log", 2, (*World).stepStall},
	{"isolate", 2, (*World).stepIsolate},
	{"heal", 5, func(w *World) { w.network.heal() }},
	{"transfer", 1, (*World).stepTransfer},
	{"renew", 60, (*World).stepRenew},
	{"watch", 20, (*World).stepWatch},
	{"listen", 150, (*World).stepListen},
	{"reconfigure", 8, (*World).stepReconfigure},
	{"fault", 8, (*World).stepFault},
	{"compare", 60, (*World).stepCompare},
	{"take a rebuilt state", 30, (*World).stepRenewal},
	{"lower the alarm", 4, (*World).stepOperator},
	{"break a disk", 5, (*World).stepDisk},
}

var stepWeights = func() (sum int) {
	for _, s := range steps {
		sum += s.weight
	}
	return sum
}()

// Run takes n random steps, checking after each.
func (w *World) Run(n int) {
	for range n {
		x, name := w.rng.Intn(stepWeights), ""
		for _, s := range steps {
			if x -= s.weight; x < 0 {
				s.run(w)
				name = s.name
				break
			}
		}
		w.check()
		w.endAiling(false)
		w.endStalled()
		w.dismiss(false)
		w.admit()
		w.record(name)
	}
}

// pick returns a random host for which ok holds, or nil.
func (w *World) pick(ok func(*host) bool) *host {
	var hs []*host
	for _, h := range w.hosts {
		if ok(h) {
			hs = append(hs, h)
		}
	}
	if len(hs) == 0 {
		return nil
	}
	return hs[w.rng.Intn(len(hs))]
}

func running(h *host) bool { return h.m != nil && !h.paused }

// stepTurn lets one loop of one member take a turn.
func (w *World) stepTurn() {
	if h := w.pick(running); h != nil {
		h.turn(w.rng.Intn(3))
	}
}

// turn runs one of the three loops once. Of a consensus that has ended each may take one more, as loops do that were told of both.
func (h *host) turn(loop int) bool {
	n := h.m.Node()
	if isClosed(n.Done()) {
		if h.late[loop] {
			return false
		}
		h.late[loop] = true
	}
	switch loop {
	case 0:
		h.turning = true
		defer func() { h.turning = false }()
		return n.Turn()
	case 1:
		if h.stall > 0 {
			h.stall--
			return true
		}
		return n.AppendTurn()
	default:
		return n.ApplyTurn()
	}
}

func (w *World) stepTick() {
	w.clock.Advance(tick)
	for _, h := range w.hosts {
		if running(h) && w.rng.Intn(10) > 0 { // clocks drift
			h.m.Node().Tick()
		}
	}
	w.stepLessor()
}

func (w *World) stepFlush() {
	if h := w.pick(running); h != nil {
		w.note("member %d flushes", h.n)
		h.failedTo("flush", h.m.Flush())
	}
}

func (w *World) stepCut() {
	if h := w.pick(running); h != nil {
		h.failedTo("cut the log", h.m.CutLog())
	}
}

func (w *World) stepSeal() {
	if h := w.pick(running); h != nil {
		h.failedTo("seal the log", h.m.Log().Seal())
	}
}

func (w *World) stepCompact() {
	if h := w.pick(running); h != nil {
		_, err := h.m.CompactStep()
		h.failedTo("compact", err)
	}
}

func (w *World) stepCrash(lost int) {
	if h := w.pick(func(h *host) bool { return h.m != nil }); h != nil {
		w.note("member %d crashes, %d %% of what was not synced is lost", h.n, lost)
		h.stop(lost)
	}
}

func (w *World) stepBlackout() {
	w.note("the power of all members is cut")
	for _, h := range w.hosts {
		if h.m != nil {
			h.stop(100)
		}
	}
}

func (w *World) stepRestart() {
	if h := w.pick(func(h *host) bool { return h.m == nil && !h.dismissed }); h != nil {
		if w.failures.on && w.rng.Intn(6) == 0 {
			h.startOnBadDisk()
			return
		}
		w.note("member %d starts", h.n)
		h.start()
	}
}

func (w *World) stepPause() {
	if h := w.pick(running); h != nil {
		w.note("member %d is paused", h.n)
		h.paused = true
	}
}

func (w *World) stepGoOn() {
	if h := w.pick(func(h *host) bool { return h.paused }); h != nil {
		h.paused = false
	}
}

// stallMax is how many turns of the log a disk leaves out, at most, that hangs: some elections.
const stallMax = 80

// stepStall has the disk of a member hang. All else goes on there. Then the log does, too, or the member is killed for it and starts again at once.
func (w *World) stepStall() {
	if h := w.pick(running); h != nil {
		h.stall, h.hangs = 1+w.rng.Intn(stallMax), w.rng.Intn(2) == 0
		w.note("the log of member %d stalls for %d turns; it is killed then: %t", h.n, h.stall, h.hangs)
	}
}

// endStalled kills members whose disks have hung for long, and starts them again.
func (w *World) endStalled() {
	if h := w.pick(func(h *host) bool { return h.m != nil && h.hangs && h.stall == 0 && !h.dismissed && h.lingers == 0 }); h != nil {
		w.note("member %d is killed for its disk, and starts again", h.n)
		h.stop(w.rng.Intn(3) * 50)
		h.start()
	}
}

func (w *World) stepIsolate() {
	h := w.hosts[w.rng.Intn(len(w.hosts))]
	way := w.rng.Intn(3)
	w.note("member %d is cut off (%d)", h.n, way)
	w.network.isolate(h, way != 0, way != 1)
}

func (w *World) stepTransfer() {
	if h := w.pick(running); h != nil {
		to := w.pick(running)
		h.m.Node().TransferLeader(to.m.ID())
	}
}

// Settle mends everything and runs until all members have applied the same and
// nothing waits. It fails the test when that does not happen.
func (w *World) Settle() {
	w.network.heal()
	w.endAiling(true)
	w.dismiss(true)
	w.admit()
	for _, h := range w.hosts {
		if h.m == nil && !h.dismissed {
			h.start()
		}
		h.paused = false
	}
	const roundsMax = 5_000
	for round := range roundsMax {
		if round%10 == 0 {
			w.stepTick()
		}
		w.round()
		w.mend(round)
		if round%10 == 9 && w.settled() {
			return
		}
	}
	w.fail("the cluster did not settle:%s", w.describe())
}

// round lets all members do what they can, and the network deliver.
func (w *World) round() {
	for _, h := range w.hosts {
		for loop := range 3 {
			for h.m != nil && h.turn(loop) {
				w.check()
			}
		}
	}
	for range 1 + len(w.network.queue) {
		w.network.deliver()
	}
	w.stepAnswers()
	w.check()
	w.dismiss(true)
	w.admit()
	w.record("round")
}

func (w *World) settled() bool {
	for _, h := range w.hosts {
		if h.dismissed {
			continue
		}
		if h.m == nil {
			return false
		}
		n := h.m.Node()
		if n.Leader() == 0 || n.Applied() != w.history.applied || n.Applied() < n.Committed() {
			return false
		}
	}
	return len(w.clients) == 0 && len(w.renewals) == 0 && w.mended()
}

func (w *World) describe() (s string) {
	s = fmt.Sprintf("\n  seen applied %d, %d clients and %d renewals wait, alarms %v, dismissed", w.history.applied, len(w.clients), len(w.renewals), w.history.model.corrupt)
	for _, h := range w.hosts {
		if h.dismissed {
			s += fmt.Sprintf(" %d", h.n)
		}
	}
	for _, h := range w.hosts {
		if h.m == nil {
			s += fmt.Sprintf("\n  member %d is down", h.n)
			continue
		}
		n := h.m.Node()
		s += fmt.Sprintf("\n  member %d (%x): leader %x term %d committed %d applied %d, log from %d, fault %+v, trusted %t",
			h.n, h.hostID, n.Leader(), n.Term(), n.Committed(), n.Applied(), h.m.Log().FirstIndex(), h.fault, h.m.Trusted() == nil)
	}
	return s
}
