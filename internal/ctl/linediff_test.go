package ctl

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawLines(t *rapid.T, name string) []string {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 0, 12).Draw(t, name)
}

func side(edits []lineEdit, mark byte) []string {
	out := []string{}
	for _, e := range edits {
		if e.mark == ' ' || e.mark == mark {
			out = append(out, e.text)
		}
	}
	return out
}

// longestCommon is the plain recursion that diffMiddle computes from the back.
func longestCommon(a, b []string) int {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	if a[0] == b[0] {
		return 1 + longestCommon(a[1:], b[1:])
	}
	return max(longestCommon(a[1:], b), longestCommon(a, b[1:]))
}

func TestADifferenceLeadsFromOneTextToTheOtherOnTheShortestWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		from, to := drawLines(t, "from"), drawLines(t, "to")
		if len(from) > 7 { // the recursion is exponential
			from = from[:7]
		}
		if len(to) > 7 {
			to = to[:7]
		}
		edits := diffLines(slices.Clone(from), slices.Clone(to))
		if got := side(edits, '-'); !slices.Equal(got, from) {
			t.Fatalf("before: got %q, want %q", got, from)
		}
		if got := side(edits, '+'); !slices.Equal(got, to) {
			t.Fatalf("after: got %q, want %q", got, to)
		}
		stays := 0
		for _, e := range edits {
			if e.mark == ' ' {
				stays++
			}
		}
		if want := longestCommon(from, to); stays != want {
			t.Fatalf("%d lines stay, want %d", stays, want)
		}
	})
}

func TestHugeTextsAreNotComparedLineByLine(t *testing.T) {
	t.Parallel()
	text := func(mark string) []string {
		lines := []string{"same"}
		for range 2000 {
			lines = append(lines, mark, "between")
		}
		return append(lines, "end")
	}
	edits := diffLines(text("x"), text("y"))
	if edits[0].mark != ' ' || edits[len(edits)-1].mark != ' ' || len(edits) != 1+2*3999+2 {
		t.Errorf("got %d lines, from %v to %v", len(edits), edits[0], edits[len(edits)-1])
	}
}

func TestOnlyTheNeighboursOfAChangeAreShown(t *testing.T) {
	t.Parallel()
	lines := strings.Split("a b c d e f g h i", " ")
	changed := slices.Clone(lines)
	changed[4] = "E"
	var out bytes.Buffer
	writeEdits(&page{Writer: &out}, false, diffLines(lines, changed))
	if got, want := out.String(), "  …\n   c\n   d\n  -e\n  +E\n   f\n   g\n"; got != want {
		t.Errorf("got\n%s", got)
	}
	out.Reset()
	writeEdits(&page{Writer: &out}, true, []lineEdit{{'-', "a"}, {'+', "b"}})
	if got, want := out.String(), "\x1b[31m  -a\x1b[0m\n\x1b[32m  +b\x1b[0m\n"; got != want {
		t.Errorf("got %q", got)
	}
}
