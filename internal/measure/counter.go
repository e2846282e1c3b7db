package measure

import "sync/atomic"

// Counter is a number that only grows. Its zero value is ready.
type Counter struct{ n atomic.Uint64 }

// Add adds n.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Value returns the sum.
func (c *Counter) Value() uint64 { return c.n.Load() }

// Outcomes is a histogram for what went well and one for what did not.
type Outcomes struct{ Succeeded, Failed *Histogram }

// NewOutcomes returns two histograms with the given bounds.
func NewOutcomes(bounds []int64) *Outcomes {
	return &Outcomes{NewHistogram(bounds), NewHistogram(bounds)}
}

// Of returns the histogram of an outcome.
func (o *Outcomes) Of(err error) *Histogram {
	if err != nil {
		return o.Failed
	}
	return o.Succeeded
}
