package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// percentile is the smallest value that at least the share p of all is not above. The values are sorted; none give 0.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	n := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(n, 0), len(sorted)-1)]
}

// median is that of values in any order; between the two in the middle if there are two. None give 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// Spread is a ratio over the rounds.
type Spread struct {
	Median float64 `json:"median"` // of a metric of all rounds together, their ratio
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Rounds int     `json:"rounds"`
}

// String is the median with the lowest, the highest and the number of the rounds.
func (s Spread) String() string {
	return fmt.Sprintf("%s (%s–%s of %d)", formatRatio(s.Median), formatRatio(s.Min), formatRatio(s.Max), s.Rounds)
}

// spreadOf divides what two servers have measured, round by round, and says false when no round has both or one of them is 0.
func spreadOf(ours, theirs []Turn, m Metric) (Spread, bool) {
	var ratios []float64
	var bothOurs, bothTheirs []Turn
	for i := range min(len(ours), len(theirs)) {
		a, hasA := ours[i].Metrics[m]
		b, hasB := theirs[i].Metrics[m]
		if !hasA || !hasB {
			continue
		}
		bothOurs, bothTheirs = append(bothOurs, ours[i]), append(bothTheirs, theirs[i])
		if a > 0 && b > 0 {
			ratios = append(ratios, a/b)
		}
	}
	if len(ratios) == 0 {
		return Spread{}, false
	}
	s := Spread{median(ratios), slices.Min(ratios), slices.Max(ratios), len(ratios)}
	if metricOf(m).whole {
		s.Median = mean(bothOurs, m) / mean(bothTheirs, m)
	}
	return s, true
}

// middleOf is the median of a metric over the turns, or its mean if it is of all rounds together; false when no turn has it.
func middleOf(turns []Turn, m Metric) (float64, bool) {
	var values []float64
	var with []Turn
	for _, t := range turns {
		if v, ok := t.Metrics[m]; ok {
			values, with = append(values, v), append(with, t)
		}
	}
	if metricOf(m).whole {
		return mean(with, m), len(with) > 0
	}
	return median(values), len(values) > 0
}

// mean is that of an operation's share over all operations of the turns. None give 0.
func mean(turns []Turn, m Metric) float64 {
	var sum float64
	operations := 0
	for _, t := range turns {
		sum += t.Metrics[m] * float64(t.Operations)
		operations += t.Operations
	}
	return sum / float64(max(1, operations))
}
