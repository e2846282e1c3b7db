package main

import "strings"

// brief writes the report as a short table of Markdown: a row for each line and each server that ours is compared with, with the
// metric that the line is about, the goals, and what else is behind. A line that cannot be compared says why.
func (r *Report) brief() string {
	rows := [][]string{{"line", "by", "ours", "theirs", "ours ÷ theirs", "", "goals", "behind in"}}
	for i := range r.Lines {
		rows = append(rows, r.Lines[i].brief()...)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", "/") // it would end the cell
		}
	}
	return align(rows)
}

// brief are the rows of one line.
func (l *Line) brief() [][]string {
	m := metricOf(l.Primary)
	if len(l.Ratios) == 0 {
		var why []string
		if len(l.Servers) == 0 {
			why = append(why, "not run")
		}
		for _, s := range l.Servers {
			if text := s.remark(); text != "" {
				why = append(why, s.Server+" "+text)
			}
		}
		return [][]string{{l.title(), m.title, l.figure(oursName), "", "", "not compared", strings.Join(why, ", "), ""}}
	}
	var out [][]string
	for i := range l.Ratios {
		ratio := &l.Ratios[i]
		name := l.title()
		if ratio.Against != goalName {
			name += " (" + ratio.Against + ")"
		}
		place, spread := "not measured", ""
		if s, ok := ratio.Metrics[l.Primary]; ok {
			place, spread = m.place(s.Median), s.String()
		}
		var goals []string
		if ratio.Against == goalName {
			for _, g := range l.Goals {
				goals = append(goals, g.brief(l, ratio))
			}
		}
		out = append(out, []string{name, m.title, l.figure(oursName), l.figure(ratio.Against), spread, place, strings.Join(goals, "; "), l.alsoBehind(ratio)})
	}
	return out
}

// figure is the median of the line's metric of one server; nothing where it was not measured.
func (l *Line) figure(server string) string {
	s := l.server(server)
	if s == nil || !s.measured() {
		return ""
	}
	v, ok := s.Medians[l.Primary]
	if !ok {
		return ""
	}
	return metricOf(l.Primary).format(v)
}

// brief is the goal with its outcome, and with what was measured for it where the row does not have that.
func (g *Goal) brief(l *Line, r *Ratio) string {
	text := g.sign() + " " + formatRatio(g.Limit)
	if g.Alone || g.Metric != l.Primary {
		text = metricOf(g.Metric).title + " " + formatRatio(g.value(l, r)) + ", " + text
	}
	if g.reached(l, r) {
		return text + " reached"
	}
	return text + " MISSED"
}
