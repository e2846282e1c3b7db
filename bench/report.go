package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
)

// oursName is the server that the others are compared with.
const oursName = "ours"

// goalName is the server that the goals are about.
const goalName = "etcd37"

// Report is what a run has found: the content of report.json.
type Report struct {
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"` // that the run took
	Command  []string  `json:"command"`
	Commit   string    `json:"commit"` // of the repository; empty outside of one
	Machine  Machine   `json:"machine"`
	Programs []Program `json:"programs"`
	Sizes    Sizes     `json:"sizes"`
	Notes    []string  `json:"notes,omitempty"`
	Lines    []Line    `json:"lines"`
}

// Line is a scenario in a shape, with what every server has made of it.
type Line struct {
	Scenario string   `json:"scenario"`
	Shape    Shape    `json:"shape"`
	Primary  Metric   `json:"primary"`
	Goals    []Goal   `json:"goals,omitempty"`   // towards etcd 3.7
	Servers  []Served `json:"servers,omitempty"` // none when the line was not run
	Ratios   []Ratio  `json:"ratios,omitempty"`
}

// Served is one server's part of a line.
type Served struct {
	Server  string             `json:"server"`
	Turns   []Turn             `json:"turns"`
	Medians map[Metric]float64 `json:"medians"`
	Failed  string             `json:"failed,omitempty"` // the first error
	Absent  bool               `json:"absent,omitempty"` // it does not know the request
}

// Ratio is ours divided by another server's.
type Ratio struct {
	Against string            `json:"against"`
	Metrics map[Metric]Spread `json:"metrics"`
	Behind  []Metric          `json:"behind,omitempty"` // whose median is worse than the other's
}

// newLine sums up the turns of a line; turns are by server and round.
func newLine(s *Scenario, programs []Program, turns map[string][]Turn) Line {
	l := Line{Scenario: s.Name, Shape: s.Shape, Primary: s.Primary, Goals: goalsOf(s)}
	for _, p := range programs {
		if len(turns[p.Name]) > 0 {
			l.Servers = append(l.Servers, served(p.Name, turns[p.Name]))
		}
	}
	ours := l.server(oursName)
	if ours == nil || !ours.measured() {
		return l
	}
	for i := range l.Servers {
		if other := &l.Servers[i]; other != ours && other.measured() {
			l.Ratios = append(l.Ratios, ratioOf(ours, other))
		}
	}
	return l
}

// server finds a server's part; nil without one.
func (l *Line) server(name string) *Served {
	i := slices.IndexFunc(l.Servers, func(s Served) bool { return s.Server == name })
	if i < 0 {
		return nil
	}
	return &l.Servers[i]
}

// measured says whether the figures count.
func (s *Served) measured() bool { return s.Failed == "" && !s.Absent }

func served(name string, turns []Turn) Served {
	s := Served{Server: name, Turns: turns, Medians: map[Metric]float64{}}
	for _, t := range turns {
		s.Absent = s.Absent || t.Absent
		if t.failed() && !t.Absent && s.Failed == "" {
			s.Failed = t.Error
		}
	}
	for _, m := range metrics {
		if v, ok := middleOf(turns, m.name); ok {
			s.Medians[m.name] = v
		}
	}
	return s
}

func ratioOf(ours, other *Served) Ratio {
	r := Ratio{Against: other.Server, Metrics: map[Metric]Spread{}}
	for _, m := range metrics {
		s, ok := spreadOf(ours.Turns, other.Turns, m.name)
		if !ok {
			continue
		}
		r.Metrics[m.name] = s
		if m.ours && !m.ahead(s.Median) {
			r.Behind = append(r.Behind, m.name)
		}
	}
	return r
}

// failed says whether any server has failed in the line.
func (l *Line) failed() bool {
	return slices.ContainsFunc(l.Servers, func(s Served) bool { return s.Failed != "" })
}

// count tells how many lines there are of each kind.
func (r *Report) count() (ahead, behind, failed, notRun int) {
	for _, l := range r.Lines {
		switch {
		case len(l.Servers) == 0:
			notRun++
		case l.failed():
			failed++
		default:
			for _, ratio := range l.Ratios {
				if s, ok := ratio.Metrics[l.Primary]; ok && metricOf(l.Primary).ahead(s.Median) {
					ahead++
				} else {
					behind++
				}
			}
		}
	}
	return ahead, behind, failed, notRun
}

// goals tells how many goals were reached, of those whose lines were measured.
func (r *Report) goals() (reached, all int) {
	for i := range r.Lines {
		l := &r.Lines[i]
		for k := range l.Ratios {
			if l.Ratios[k].Against != goalName {
				continue
			}
			for _, g := range l.Goals {
				all++
				if g.reached(l, &l.Ratios[k]) {
					reached++
				}
			}
		}
	}
	return reached, all
}

// summary is the count in words.
func (r *Report) summary() string {
	ahead, behind, failed, notRun := r.count()
	reached, all := r.goals()
	return fmt.Sprintf("%d ahead, %d behind (by the first metric of a line), %d failed, %d not run; %d of %d goals reached; in %s",
		ahead, behind, failed, notRun, reached, all, formatClock(time.Duration(r.Seconds*float64(time.Second))))
}

// writeJSON writes the report for programs.
func (r *Report) writeJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
