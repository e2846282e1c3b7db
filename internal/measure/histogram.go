package measure

import (
	"sync/atomic"
	"time"
)

// Histogram counts observations by upper bounds. Make one with NewHistogram.
type Histogram struct {
	bounds  []int64 // ascending; never changed
	buckets []atomic.Uint64
	sum     atomic.Int64
}

// Exponential returns n bounds, each twice the one before.
func Exponential(first int64, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = first << i
	}
	return out
}

// Durations returns n bounds in nanoseconds, each twice the one before.
func Durations(first time.Duration, n int) []int64 { return Exponential(int64(first), n) }

// NewHistogram returns an empty histogram. The bounds ascend, are inclusive and are kept; there is one more bucket above them.
func NewHistogram(bounds []int64) *Histogram {
	return &Histogram{bounds: bounds, buckets: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe adds a value. It costs two atomic additions and a few comparisons.
func (h *Histogram) Observe(v int64) { h.ObserveMany(v, 1) }

// Took adds a duration.
func (h *Histogram) Took(d time.Duration) { h.ObserveMany(int64(d), 1) }

// TookTogether adds n observations whose sum is d: all alike when d is within the first bound, and otherwise all but one as of nothing.
func (h *Histogram) TookTogether(d time.Duration, n int) {
	if int64(d) > h.bounds[0] {
		h.ObserveMany(0, uint64(n-1))
		h.Took(d)
		return
	}
	h.buckets[0].Add(uint64(n))
	h.sum.Add(int64(d))
}

// ObserveMany adds n observations of the same value.
func (h *Histogram) ObserveMany(v int64, n uint64) {
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.buckets[i].Add(n)
	h.sum.Add(v * int64(n))
}

// Reading is what a histogram holds at one time.
type Reading struct {
	// Bounds are those of the histogram. Cumulative[i] is how many observations were at or below Bounds[i].
	Bounds     []int64
	Cumulative []uint64
	// Count is the number of all observations, Sum their sum.
	Count uint64
	Sum   int64
}

// Read returns what the histogram holds now.
func (h *Histogram) Read() Reading {
	r := Reading{Bounds: h.bounds, Cumulative: make([]uint64, len(h.bounds)), Sum: h.sum.Load()}
	for i := range h.buckets {
		r.Count += h.buckets[i].Load()
		if i < len(h.bounds) {
			r.Cumulative[i] = r.Count
		}
	}
	return r
}
