// Package clock is the only clock that Ashlar's logic may read.
//
// Code that waits or looks at the time takes a Clock. The binary passes Real; tests and the simulator
// pass a Manual one and move it by hand, so that nothing in a test sleeps and a seed gives the same run
// twice.
//
// The packages that decide what a log entry does (apply, mvcc, lease, auth, cluster) take no clock at all:
// members must decide alike.
package clock

import "time"

// Clock tells the time and wakes its users later. All methods are safe for concurrent use.
type Clock interface {
	// Now returns the current time.
	Now() time.Time
	// NewTimer returns a timer that sends the time on its channel once d has passed.
	NewTimer(d time.Duration) Timer
	// NewTicker returns a ticker that sends the time every d. d must be positive.
	NewTicker(d time.Duration) Ticker
	// AfterFunc calls f once d has passed. The timer's channel is nil. Real calls f in a goroutine of its
	// own, Manual inside Advance; f must not block in either case.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer fires once. Its channel holds one value; nobody needs to drain it before Stop or Reset: after
// either of them no value from before is received.
type Timer interface {
	// C is the channel the time is sent on; nil for a timer made by AfterFunc.
	C() <-chan time.Time
	// Stop prevents the timer from firing and tells whether it was still going to.
	Stop() bool
	// Reset lets the timer fire d from now and tells whether it was still going to fire before.
	Reset(d time.Duration) bool
}

// Ticker fires again and again. A receiver that is late misses ticks; they are never queued.
type Ticker interface {
	// C is the channel the time is sent on.
	C() <-chan time.Time
	// Stop turns the ticker off. It does not close the channel.
	Stop()
	// Reset changes the period; the next tick comes d from now.
	Reset(d time.Duration)
}

// Real returns the clock of the machine.
func Real() Clock { return real{} }

type real struct{}

func (real) Now() time.Time { return time.Now() }

func (real) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

func (real) NewTicker(d time.Duration) Ticker { return realTicker{time.NewTicker(d)} }

func (real) AfterFunc(d time.Duration, f func()) Timer { return realTimer{time.AfterFunc(d, f)} }

type realTimer struct{ t *time.Timer }

func (t realTimer) C() <-chan time.Time { return t.t.C }

func (t realTimer) Stop() bool { return t.t.Stop() }

func (t realTimer) Reset(d time.Duration) bool { return t.t.Reset(d) }

type realTicker struct{ t *time.Ticker }

func (t realTicker) C() <-chan time.Time { return t.t.C }

func (t realTicker) Stop() { t.t.Stop() }

func (t realTicker) Reset(d time.Duration) { t.t.Reset(d) }
