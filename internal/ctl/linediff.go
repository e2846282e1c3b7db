package ctl

// lineEdit is a line of a difference: ' ' stays, '-' goes, '+' comes.
type lineEdit struct {
	mark byte
	text string
}

// diffCellsMax bounds the work and memory of comparing lines; what is larger goes and comes as a whole.
const diffCellsMax = 1 << 20

// diffLines returns the shortest way from one text to another, in lines.
func diffLines(from, to []string) []lineEdit {
	var head, tail []lineEdit
	for len(from) > 0 && len(to) > 0 && from[0] == to[0] {
		head = append(head, lineEdit{' ', from[0]})
		from, to = from[1:], to[1:]
	}
	for len(from) > 0 && len(to) > 0 && from[len(from)-1] == to[len(to)-1] {
		tail = append(tail, lineEdit{' ', from[len(from)-1]})
		from, to = from[:len(from)-1], to[:len(to)-1]
	}
	out := append(head, diffMiddle(from, to)...)
	for i := len(tail) - 1; i >= 0; i-- {
		out = append(out, tail[i])
	}
	return out
}

// diffMiddle follows the longest common sequence of lines.
func diffMiddle(from, to []string) []lineEdit {
	var out []lineEdit
	if len(from)*len(to) > diffCellsMax {
		return append(allLines('-', from), allLines('+', to)...)
	}
	// common[i][j] is how many lines from[i:] and to[j:] have in common.
	common := make([][]int32, len(from)+1)
	for i := range common {
		common[i] = make([]int32, len(to)+1)
	}
	for i := len(from) - 1; i >= 0; i-- {
		for j := len(to) - 1; j >= 0; j-- {
			if from[i] == to[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(from) && j < len(to) {
		switch {
		case from[i] == to[j]:
			out = append(out, lineEdit{' ', from[i]})
			i, j = i+1, j+1
		case common[i+1][j] >= common[i][j+1]:
			out = append(out, lineEdit{'-', from[i]})
			i++
		default:
			out = append(out, lineEdit{'+', to[j]})
			j++
		}
	}
	return append(append(out, allLines('-', from[i:])...), allLines('+', to[j:])...)
}

func allLines(mark byte, lines []string) []lineEdit {
	out := make([]lineEdit, len(lines))
	for i, l := range lines {
		out[i] = lineEdit{mark, l}
	}
	return out
}

// diffContext is how many lines that stay are shown around those that do not.
const diffContext = 2

// writeEdits prints a difference; of what stays only the neighbours of what changes.
func writeEdits(p *page, c paint, edits []lineEdit) {
	near := make([]bool, len(edits))
	for i, e := range edits {
		if e.mark == ' ' {
			continue
		}
		for k := max(0, i-diffContext); k <= min(len(edits)-1, i+diffContext); k++ {
			near[k] = true
		}
	}
	left := false
	for i, e := range edits {
		if !near[i] {
			left = true
			continue
		}
		if left {
			p.line(c.dim("  …"))
			left = false
		}
		line := "  " + string(e.mark) + e.text
		switch e.mark {
		case '-':
			line = c.red(line)
		case '+':
			line = c.green(line)
		}
		p.line(line)
	}
}
