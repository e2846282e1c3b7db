package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// columns are the metrics that have a column of their own; the others share one.
var columns = []Metric{Rate, P50, P99, P999, CPU, ClientCPU, Peak, Written}

// single are the metrics that few lines have.
var single = []Metric{Took, Rest, Stretch, Amplified}

// table writes the report as a table of Markdown whose columns are aligned: for each line a row for every server, with medians, and
// one for the ratio to each of the others.
func (r *Report) table() string {
	head := []string{"scenario", "server"}
	for _, c := range columns {
		head = append(head, metricOf(c).title)
	}
	rows := [][]string{append(head, "other", "the line's metric, ours ÷ theirs")}
	for i := range r.Lines {
		rows = append(rows, r.Lines[i].rows()...)
	}
	return align(rows)
}

// rows are those of one line.
func (l *Line) rows() [][]string {
	name := l.title()
	if len(l.Servers) == 0 {
		return [][]string{row(name, "", func(Metric) string { return "" }, "not run")}
	}
	var out [][]string
	for _, s := range l.Servers {
		out = append(out, row(name, s.Server, func(m Metric) string {
			if v, ok := s.Medians[m]; ok && s.measured() {
				return metricOf(m).format(v)
			}
			return ""
		}, s.remark()))
		name = ""
	}
	for _, ratio := range l.Ratios {
		out = append(out, row("", "ours ÷ "+ratio.Against, func(m Metric) string {
			if s, ok := ratio.Metrics[m]; ok {
				return formatRatio(s.Median)
			}
			return ""
		}, l.verdict(&ratio)))
	}
	return out
}

func (l *Line) title() string { return l.Scenario + " · " + l.Shape.String() }

// remark says why a server has no figures.
func (s *Served) remark() string {
	switch {
	case s.Absent:
		return "does not know this request"
	case s.Failed != "":
		return "FAILED: " + strings.Join(strings.Fields(s.Failed), " ")
	}
	return ""
}

// verdict is the ratio of the line's metric with its spread, what is behind, and what has become of the line's goals.
func (l *Line) verdict(r *Ratio) string {
	parts := []string{l.place(r)}
	if also := l.alsoBehind(r); also != "" {
		parts = append(parts, "behind in "+also)
	}
	if r.Against == goalName {
		for _, g := range l.Goals {
			parts = append(parts, g.text(l, r))
		}
	}
	return strings.Join(parts, "; ")
}

// alsoBehind names the metrics that are behind, beside that of the line.
func (l *Line) alsoBehind(r *Ratio) string {
	var out []string
	for _, b := range r.Behind {
		if b != l.Primary {
			out = append(out, metricOf(b).title)
		}
	}
	return strings.Join(out, ", ")
}

// place says whether the line is ahead, by its metric.
func (l *Line) place(r *Ratio) string {
	m := metricOf(l.Primary)
	s, ok := r.Metrics[l.Primary]
	if !ok {
		return m.title + " was not measured"
	}
	return fmt.Sprintf("%s %s, %s", m.title, s, m.place(s.Median))
}

// row is one row of the table; cell gives the text of a metric.
func row(name, server string, cell func(m Metric) string, remark string) []string {
	out := []string{name, server}
	for _, c := range columns {
		out = append(out, cell(c))
	}
	var others []string
	for _, m := range single {
		if text := cell(m); text != "" {
			others = append(others, metricOf(m).title+" "+text)
		}
	}
	out = append(out, strings.Join(others, ", "), remark)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "|", "/") // it would end the cell
	}
	return out
}

// formatRatio prints a ratio; large ones without decimals.
func formatRatio(v float64) string {
	switch {
	case v < 0.1:
		return fmt.Sprintf("%.3f×", v)
	case v < 10:
		return fmt.Sprintf("%.2f×", v)
	}
	return formatCount(v) + "×"
}

// align pads the cells of a table; the first row is its head.
func align(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] { // the last one may be long
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	widths[len(widths)-1] = utf8.RuneCountInString(rows[0][len(widths)-1])
	var out strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(&out, "| %s%s ", cell, strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell))))
		}
		out.WriteString("|\n")
		if n > 0 {
			continue
		}
		for _, w := range widths {
			out.WriteString("|" + strings.Repeat("-", w+2))
		}
		out.WriteString("|\n")
	}
	return out.String()
}
