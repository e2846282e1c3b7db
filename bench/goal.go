package main

import "strings"

// Goal is what a metric of a line should reach.
type Goal struct {
	Metric Metric `json:"metric"`
	// Limit is of the ratio ours ÷ theirs, or of ours alone. It is the most, or, for a metric of which more is better, the least.
	Limit float64 `json:"limit"`
	Alone bool    `json:"alone,omitempty"`
}

// goalsOf are the goals of a line towards etcd 3.7; most lines have none but to be ahead.
func goalsOf(s *Scenario) []Goal {
	var out []Goal
	add := func(m Metric, limit float64) { out = append(out, Goal{Metric: m, Limit: limit}) }
	put, get := strings.HasPrefix(s.Name, "put 256 B"), strings.HasPrefix(s.Name, "get, ")
	many := strings.HasSuffix(s.Name, "1,000 clients")
	switch {
	case s.Name == "put 256 B, prebuilt frames":
		add(Rate, byShape(s.Shape, 1.8, 2.5, 3))
	case put && many:
		add(CPU, byShape(s.Shape, 0.55, 0.4, 0.25))
		add(Written, 1.5)
	case get && many:
		add(CPU, byShape(s.Shape, 0.65, 0.55, 0.25))
	case s.Name == "put 256 B, 1 client" && s.Shape == three:
		add(P50, 0.7)
	case s.Name == "memory at rest":
		add(Rest, 0.5)
	case s.Name == "start after a clean stop":
		add(Took, 0.05)
	case strings.HasPrefix(s.Name, "page of"):
		add(CPU, 0.01) // of the server: a client of ours on the same cores takes longer to decode a page than the server to make it
	case s.Name == "full range":
		add(Took, 0.5)
		add(Peak, 0.35)
	case strings.HasPrefix(s.Name, "fan-out"):
		add(CPU, 0.3)
	case strings.HasPrefix(s.Name, "puts beside"):
		out = append(out, Goal{Metric: Stretch, Limit: 1.5, Alone: true})
	}
	return out
}

// byShape chooses a limit: that of one member or of three in the clear, or that of mutual TLS.
func byShape(s Shape, one, three, tls float64) float64 {
	switch {
	case s.TLS:
		return tls
	case s.Members == 1:
		return one
	}
	return three
}

// value is what the goal is about, as the median of a line; 0 where it was not measured.
func (g *Goal) value(l *Line, r *Ratio) float64 {
	if !g.Alone {
		return r.Metrics[g.Metric].Median
	}
	if ours := l.server(oursName); ours != nil {
		return ours.Medians[g.Metric]
	}
	return 0
}

// reached says whether the median of a line is within a goal; false too where it was not measured.
func (g *Goal) reached(l *Line, r *Ratio) bool {
	value := g.value(l, r)
	if metricOf(g.Metric).more {
		return value >= g.Limit
	}
	return value > 0 && value <= g.Limit
}

// sign says on which side of the limit the goal lies.
func (g *Goal) sign() string {
	if metricOf(g.Metric).more {
		return "≥"
	}
	return "≤"
}

// text says what the goal is and whether it was reached.
func (g *Goal) text(l *Line, r *Ratio) string {
	words := metricOf(g.Metric).title + " " + g.sign() + " " + formatRatio(g.Limit)
	if g.reached(l, r) {
		return "goal " + words + " reached"
	}
	return "GOAL " + words + " MISSED"
}
