package ctl

import (
	"strings"
	"unicode/utf8"
)

// table is a reply as rows under headings.
type table struct {
	headings []string
	rows     [][]string
}

// draw prints the table in lines: headings centred, cells to the right.
func (t *table) draw(p *page) {
	widths := make([]int, len(t.headings))
	for i, h := range t.headings {
		widths[i] = utf8.RuneCountInString(h)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	rule := func(left, middle, right string) {
		spans := make([]string, len(widths))
		for i, w := range widths {
			spans[i] = strings.Repeat("─", w+2)
		}
		p.line(left + strings.Join(spans, middle) + right)
	}
	row := func(cells []string, pad func(cell string, space int) string) {
		padded := make([]string, len(cells))
		for i, c := range cells {
			padded[i] = " " + pad(c, widths[i]-utf8.RuneCountInString(c)) + " "
		}
		p.line("│" + strings.Join(padded, "│") + "│")
	}
	rule("┌", "┬", "┐")
	row(t.headings, centred)
	if len(t.rows) > 0 {
		rule("├", "┼", "┤")
	}
	for _, r := range t.rows {
		row(r, rightAligned)
	}
	rule("└", "┴", "┘")
}

func centred(cell string, space int) string {
	return strings.Repeat(" ", space/2) + cell + strings.Repeat(" ", space-space/2)
}

func rightAligned(cell string, space int) string { return strings.Repeat(" ", space) + cell }
