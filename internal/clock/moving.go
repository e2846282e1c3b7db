package clock

import "time"

// Moving is a Manual for tests of work that takes time: it moves by Step at each look at it, and its timers fire at once. It belongs to one
// goroutine.
type Moving struct {
	*Manual
	Step  time.Duration
	Rests []time.Duration // what timers were asked for
}

// Now implements Clock.
func (c *Moving) Now() time.Time {
	c.Advance(c.Step)
	return c.Manual.Now()
}

// NewTimer implements Clock.
func (c *Moving) NewTimer(d time.Duration) Timer {
	c.Rests = append(c.Rests, d)
	timer := c.Manual.NewTimer(d)
	c.Advance(d)
	return timer
}
