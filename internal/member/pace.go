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
	// A rest that lasts too long, as those of a busy machine do, makes the next one shorter.
	stintMax   = 300 * time.Microsecond
	pauseShare = 6
	pauseMax   = 3 * time.Millisecond
)

// stints let work in the background, which would take all of a processor, have a part of it while clients ask for something. A request goes
// through several goroutines; each of them that finds all processors taken waits. It belongs to one goroutine.
type stints struct {
	clock clock.Clock
	stop  <-chan struct{} // closed when the member stops
	demand
	processors int
	begun      time.Time     // the stint
	worked     time.Duration // how long it was at the last pause
	over       time.Duration // by how much the last rest was too long
}

func (m *Member) newStints() *stints {
	return &stints{clock: m.cfg.Clock, stop: m.stop, demand: m.demand(), processors: runtime.GOMAXPROCS(0), begun: m.cfg.Clock.Now()}
}

// pause is to be called several times in each stint: it rests after a stint, and lets other goroutines run in between.
func (p *stints) pause() {
	now := p.clock.Now()
	p.worked = now.Sub(p.begun)
	if p.worked < stintMax {
		runtime.Gosched()
		return
	}
	d := min(pauseShare*p.worked/time.Duration(p.processors), pauseMax) - p.over
	p.worked = 0
	if !p.busy(now) || d <= 0 {
		runtime.Gosched()
		p.begun, p.over = now, max(0, -d)
		return
	}
	rest(p.clock, p.stop, d)
	p.begun = p.clock.Now()
	p.over = min(p.begun.Sub(now)-d, pauseMax)
}

// resume begins to work again after something else that was no work, such as to wait for who takes what was made: that is no part of a stint.
func (p *stints) resume() { p.begun = p.clock.Now().Add(-p.worked) }

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
