// Package pacing lets work in the background take turns with what clients ask for.
//
// Work of the background that goes on without a rest takes a processor for itself, and often the disk. A request goes through several goroutines,
// each of which waits where all processors are taken, and ends with a sync, which waits for what was written before it. So such work
// goes in stints, with rests that are longer than they are, for as long as anybody asks for anything.
package pacing

import (
	"runtime"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// QuietFor is how long nobody asks a member for anything before work in the background goes on without rests. It is far above what a request takes: clients
// that all wait for a slow one ask for nothing, and they are those for whom the rests are.
const QuietFor = 250 * time.Millisecond

// Demand knows whether clients ask for something. It belongs to one goroutine.
type Demand struct {
	asked    func() uint64
	requests uint64    // as of the last look
	last     time.Time // of the requests
}

// NewDemand returns the demand of now. asked returns a number that changes with each request.
func NewDemand(asked func() uint64, now time.Time) *Demand { return &Demand{asked, asked(), now} }

// Busy says whether anybody has asked for something lately.
func (d *Demand) Busy(now time.Time) bool {
	if n := d.asked(); n != d.requests {
		d.requests, d.last = n, now
	}
	return now.Sub(d.last) < QuietFor
}

const (
	// StintMax is how long work in the background may go on without a rest.
	StintMax = 300 * time.Microsecond
	// RestMax bounds a rest: where a stint took long it was others who had the processors, and the work is to have its turn, too.
	RestMax = 3 * time.Millisecond
	// share is how many times as long as a stint the rest after it is, on one processor, and less on more.
	share = 6
	// gentleMax is how long gentle stints may be.
	gentleMax = StintMax / 2
)

// Rests are as long as they are to be on average: one that lasts too long, as on a busy machine, makes the next ones shorter, by RestMax at most.
// They belong to one goroutine.
type Rests struct {
	over time.Duration // by how much the last one was too long
	half bool          // none is made shorter than by half
}

// Next returns how long a rest that is to take d has to be; 0 for none at all.
func (r *Rests) Next(d time.Duration) time.Duration {
	if r.half {
		return d - min(r.over, d/2)
	}
	d -= r.over
	r.over = max(0, -d)
	return max(0, d)
}

// Took says that a rest of the length that Next has returned took that long.
func (r *Rests) Took(length, took time.Duration) { r.over = min(took-length, RestMax) }

// Stints let work in the background, which would take all of a processor, have a part of it while clients ask for something. They belong to
// one goroutine.
type Stints struct {
	clock clock.Clock
	stop  <-chan struct{}
	busy  func(now time.Time) bool

	max        time.Duration // of a stint
	whole      bool          // nobody else is let run within a stint
	processors int
	begun      time.Time     // the stint
	worked     time.Duration // how long it was at the last pause
	rests      Rests
}

// NewStints begins the first stint. There are rests while busy says so (Demand.Busy), and none goes on once stop is closed.
func NewStints(c clock.Clock, stop <-chan struct{}, busy func(now time.Time) bool) *Stints {
	return &Stints{clock: c, stop: stop, busy: busy, max: StintMax, processors: runtime.GOMAXPROCS(0), begun: c.Now()}
}

// Gently makes them half as long, for work that takes seconds and whose end nobody waits for. Rests that were too
// long, as each is where the system lets a thread sleep longer than it asked for, make the next ones shorter by half at most: two stints
// without a rest in between are as one. Within a stint nobody else is let run: to ask the scheduler wakes a thread, which looks for work on another
// processor, and is a sixth of all that a snapshot takes.
func (p *Stints) Gently() *Stints {
	p.max, p.whole, p.rests.half = gentleMax, true, true
	return p
}

// Pause is to be called several times in each stint: it rests after a stint, and lets other goroutines run in between, unless it is a gentle one.
func (p *Stints) Pause() { p.PauseFor(1) }

// PauseFor is Pause with rests of so many times their length, of which 0 is none.
func (p *Stints) PauseFor(part float64) {
	now := p.clock.Now()
	p.worked = now.Sub(p.begun)
	if p.worked < p.max {
		if !p.whole {
			runtime.Gosched()
		}
		return
	}
	d := min(share*p.worked/time.Duration(p.processors), RestMax)
	d = p.rests.Next(time.Duration(part * float64(d)))
	p.worked = 0
	if !p.busy(now) || d == 0 {
		runtime.Gosched()
		p.begun = now
		return
	}
	Rest(p.clock, p.stop, d)
	p.begun = p.clock.Now()
	p.rests.Took(d, p.begun.Sub(now))
}

// Resume begins to work again after something else that was no work, such as to wait for who takes what was made: that is no part of a stint.
func (p *Stints) Resume() { p.begun = p.clock.Now().Add(-p.worked) }

// Rest returns after d, or when stop is closed.
func Rest(c clock.Clock, stop <-chan struct{}, d time.Duration) {
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
