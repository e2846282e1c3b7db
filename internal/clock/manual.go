package clock

import (
	"sync"
	"time"
)

// Manual is a clock that stands still until Advance moves it.
//
// Guarantees: 1. Advance fires what falls due in the order of the due times; what is due at the same time
// fires in the order of creation. 2. While something fires, Now is its due time. 3. Functions of AfterFunc
// run in the goroutine of Advance, one after another, with no lock held: they may use the clock.
type Manual struct {
	advance sync.Mutex // held during Advance: two of them never interleave. Taken before mu.

	mu      sync.Mutex // guards what follows; never held while a function runs
	changed *sync.Cond // the set of pending alarms changed
	now     time.Time
	created int
	pending []*alarm // not ordered; a test has a handful
}

// alarm is a timer or a ticker of a Manual clock.
type alarm struct {
	clock  *Manual
	due    time.Time
	order  int
	period time.Duration // 0 for a timer
	c      chan time.Time
	f      func()
}

// NewManual returns a clock that shows start.
func NewManual(start time.Time) *Manual {
	m := &Manual{now: start}
	m.changed = sync.NewCond(&m.mu)
	return m
}

// Now returns the time the clock shows.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// NewTimer implements Clock.
func (m *Manual) NewTimer(d time.Duration) Timer {
	return m.start(&alarm{c: make(chan time.Time, 1)}, d)
}

// NewTicker implements Clock.
func (m *Manual) NewTicker(d time.Duration) Ticker {
	if d <= 0 {
		panic("clock: the period of a ticker must be positive")
	}
	return ticker{m.start(&alarm{c: make(chan time.Time, 1), period: d}, d)}
}

// AfterFunc implements Clock.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	return m.start(&alarm{f: f}, d)
}

// Advance moves the clock by d and fires everything that falls due on the way. A timer made with a
// duration of zero or less fires at the next Advance, of 0 too.
func (m *Manual) Advance(d time.Duration) {
	m.advance.Lock()
	defer m.advance.Unlock()
	m.mu.Lock()
	end := m.now.Add(d)
	for {
		a := m.nextLocked(end)
		if a == nil {
			break
		}
		if a.due.After(m.now) {
			m.now = a.due
		}
		m.fireLocked(a)
	}
	m.now = end
	m.mu.Unlock()
}

// WaitPending blocks until at least n timers and tickers are waiting to fire. Tests use it to know that
// another goroutine has come to where it waits, before they call Advance.
func (m *Manual) WaitPending(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.pending) < n {
		m.changed.Wait()
	}
}

func (m *Manual) start(a *alarm, d time.Duration) *alarm {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.clock = m
	m.addLocked(a, d)
	return a
}

func (m *Manual) addLocked(a *alarm, d time.Duration) {
	m.created++
	a.order = m.created
	a.due = m.now.Add(d)
	m.pending = append(m.pending, a)
	m.changed.Broadcast()
}

func (m *Manual) removeLocked(a *alarm) bool {
	for i, p := range m.pending {
		if p == a {
			m.pending = append(m.pending[:i], m.pending[i+1:]...)
			return true
		}
	}
	return false
}

// nextLocked returns the alarm that falls due first, not after end.
func (m *Manual) nextLocked(end time.Time) *alarm {
	var first *alarm
	for _, a := range m.pending {
		if a.due.After(end) {
			continue
		}
		if first == nil || a.due.Before(first.due) || a.due.Equal(first.due) && a.order < first.order {
			first = a
		}
	}
	return first
}

// fireLocked fires a. It gives mu back while a function runs.
func (m *Manual) fireLocked(a *alarm) {
	if a.period > 0 {
		a.due = a.due.Add(a.period)
	} else {
		m.removeLocked(a)
	}
	if a.f != nil {
		m.mu.Unlock()
		a.f()
		m.mu.Lock()
		return
	}
	select {
	case a.c <- m.now:
	default:
	}
}

// C implements Timer and Ticker.
func (a *alarm) C() <-chan time.Time { return a.c }

// Stop implements Timer.
func (a *alarm) Stop() bool {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	return a.stopLocked()
}

func (a *alarm) stopLocked() bool {
	if a.c != nil {
		select {
		case <-a.c:
		default:
		}
	}
	return a.clock.removeLocked(a)
}

// Reset implements Timer.
func (a *alarm) Reset(d time.Duration) bool {
	a.clock.mu.Lock()
	defer a.clock.mu.Unlock()
	was := a.stopLocked()
	if a.period > 0 {
		a.period = d
	}
	a.clock.addLocked(a, d)
	return was
}

// ticker gives an alarm the method set of Ticker.
type ticker struct{ a *alarm }

// C implements Ticker.
func (t ticker) C() <-chan time.Time { return t.a.C() }

// Stop implements Ticker.
func (t ticker) Stop() { t.a.Stop() }

// Reset implements Ticker.
func (t ticker) Reset(d time.Duration) { t.a.Reset(d) }
