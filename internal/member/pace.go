package member

import (
	"runtime"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// quietFor is how long nobody asks a member for anything before work in the background goes on without rests.
const quietFor = 50 * time.Millisecond

// demand knows whether clients ask for something. It belongs to one goroutine.
type demand struct {
	asked    func() uint64 // changes with each request
	requests uint64        // as of the last look
	last     time.Time     // of the requests
}

func (m *Member) demand() demand { return demand{m.asked, m.asked(), m.cfg.Clock.Now()} }

// asked counts what clients ask: entries that are applied and views that are opened.
func (m *Member) asked() uint64 { return m.node.Applied() + m.Store().Entered() }

// busy says whether anybody has asked for something lately.
func (d *demand) busy(now time.Time) bool {
	if n := d.asked(); n != d.requests {
		d.requests, d.last = n, now
	}
	return now.Sub(d.last) < quietFor
}

const (
	// stintMax is how long work in the background may go on without a rest. A rest is pauseShare times as long, divided by the number of
	// processors, and pauseMax at most: where a stint took long it was others who had the processors, and the work is to have its turn, too.
	stintMax   = time.Millisecond
	pauseShare = 6
	pauseMax   = 9 * time.Millisecond
)

// stints let work in the background, which would take all of a processor, have a part of it while clients ask for something. A request goes
// through several goroutines; each of them that finds all processors taken waits. It belongs to one goroutine.
type stints struct {
	clock clock.Clock
	stop  <-chan struct{} // closed when the member stops
	demand
	processors int
	begun      time.Time // the stint
}

func (m *Member) newStints() *stints {
	return &stints{clock: m.cfg.Clock, stop: m.stop, demand: m.demand(), processors: runtime.GOMAXPROCS(0), begun: m.cfg.Clock.Now()}
}

// pause is to be called several times in each stint: it rests after a stint, and lets other goroutines run in between.
func (p *stints) pause() {
	now := p.clock.Now()
	stint := now.Sub(p.begun)
	if stint < stintMax {
		runtime.Gosched()
		return
	}
	if !p.busy(now) {
		runtime.Gosched()
		p.begun = now
		return
	}
	rest(p.clock, p.stop, min(pauseShare*stint/time.Duration(p.processors), pauseMax))
	p.begun = p.clock.Now()
}

// rest returns after d, or when the member stops.
func rest(c clock.Clock, stop <-chan struct{}, d time.Duration) {
	if d <= 0 { // many processors, or a clock that stands still
		return
	}
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-stop:
	}
}
