package tidy

import (
	"bytes"
	"cmp"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// TestLongest prints the ten longest files and functions, for review. It never fails.
func TestLongest(t *testing.T) {
	t.Parallel()
	type item struct {
		lines int
		what  string
	}
	var files, functions []item
	everyFile(t, func(s source) {
		files = append(files, item{bytes.Count(s.text, []byte("\n")), s.path})
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
				lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
				functions = append(functions, item{lines, s.at(f) + " " + f.Name.Name})
			}
		}
	})
	var out strings.Builder
	for _, list := range []struct {
		title string
		items []item
	}{{"longest files", files}, {"longest functions", functions}} {
		out.WriteString("\n" + list.title + "\n")
		slices.SortFunc(list.items, func(a, b item) int { return cmp.Compare(b.lines, a.lines) })
		for _, i := range list.items[:min(10, len(list.items))] {
			out.WriteString("  " + itoa(i.lines) + "  " + i.what + "\n")
		}
	}
	t.Log(out.String())
}
