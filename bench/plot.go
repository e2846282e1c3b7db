package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// Sizes of the plot, in units of SVG.
const (
	plotWidth  = 1100
	plotNames  = 430 // the room for the names on the left
	plotRow    = 20
	plotTop    = 56
	plotBottom = 16
)

const (
	aheadColour  = "#2b7a4b"
	behindColour = "#b3402e"
)

// bar is one ratio of the plot, as how many times ours is better.
type bar struct {
	name           string
	median, lo, hi float64
}

// bars are those of the lines that have a ratio to a server.
func (r *Report) bars(against string) []bar {
	var out []bar
	for i := range r.Lines {
		l := &r.Lines[i]
		for _, ratio := range l.Ratios {
			s, ok := ratio.Metrics[l.Primary]
			if !ok || ratio.Against != against {
				continue
			}
			m := metricOf(l.Primary)
			b := bar{name: l.title() + ": " + m.title, median: s.Median, lo: s.Min, hi: s.Max}
			if !m.more {
				b.median, b.lo, b.hi = 1/s.Median, 1/s.Max, 1/s.Min
			}
			out = append(out, b)
		}
	}
	return out
}

// writePlot draws how many times better ours is than another server, on a logarithmic scale, with the spread of the rounds.
func (r *Report) writePlot(w io.Writer, against string) error {
	bars := r.bars(against)
	lo, hi := 0.5, 2.0
	for _, b := range bars {
		lo, hi = min(lo, b.lo), max(hi, b.hi)
	}
	step := tickStep(lo, hi)
	lo, hi = math.Exp2(math.Floor(math.Log2(lo)/step)*step), math.Exp2(math.Ceil(math.Log2(hi)))
	x := func(v float64) float64 {
		return plotNames + (plotWidth-plotNames-60)*math.Log(v/lo)/math.Log(hi/lo)
	}
	height := plotTop + plotRow*len(bars) + plotBottom
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, height)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	fmt.Fprintf(&out, `<text x="10" y="20" font-size="15">How many times better ours is than %s, by each line's metric (%s)</text>`+"\n",
		html.EscapeString(against), html.EscapeString(r.Sizes.Name))
	for v := lo; v <= hi*1.001; v *= math.Exp2(step) {
		colour := "#dddddd"
		if v == 1 {
			colour = "#444444"
		}
		fmt.Fprintf(&out, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>`+"\n", x(v), plotTop-8, x(v), height-plotBottom, colour)
		fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle" fill="#555555">%g×</text>`+"\n", x(v), plotTop-14, v)
	}
	for i, b := range bars {
		b.draw(&out, float64(plotTop+plotRow*i), x)
	}
	out.WriteString("</svg>\n")
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("writing the plot: %w", err)
	}
	return nil
}

// tickStep is how many doublings are between two lines of the scale, so that there is room for their numbers. The scale begins at a
// multiple of it: one of the lines is that of 1.
func tickStep(lo, hi float64) float64 {
	const most = 11
	return math.Max(1, math.Ceil(math.Log2(hi/lo)/most))
}

// draw draws a bar from 1 to its median, and a line over its spread.
func (b *bar) draw(out *strings.Builder, y float64, x func(v float64) float64) {
	colour := aheadColour
	if b.median < 1 {
		colour = behindColour
	}
	left, right := min(x(1), x(b.median)), max(x(1), x(b.median))
	fmt.Fprintf(out, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", plotNames-14, y+plotRow*0.7, html.EscapeString(b.name))
	fmt.Fprintf(out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y+3, max(right-left, 1), plotRow-6, colour)
	fmt.Fprintf(out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="black"/>`+"\n", x(b.lo), y+plotRow/2, x(b.hi), y+plotRow/2)
	fmt.Fprintf(out, `<text x="%.1f" y="%.1f">%s</text>`+"\n", max(x(b.hi), right)+5, y+plotRow*0.7, formatRatio(b.median))
}
