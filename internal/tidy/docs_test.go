package tidy

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestFilesAreFormatted(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		want, err := format.Source(s.text)
		if err != nil {
			t.Errorf("%s: %v", s.path, err)
		} else if !bytes.Equal(want, s.text) {
			t.Errorf("%s: gofmt would change it", s.path)
		}
	})
}

func TestEveryPackageHasADoc(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	everyFile(t, func(s source) {
		if !s.test {
			documented[s.room] = documented[s.room] || len(s.file.Doc.Text()) > 60
		}
	})
	for room, ok := range documented {
		if !ok {
			t.Errorf("%s has no package doc that a newcomer could start from", room)
		}
	}
}

func TestEveryExportIsDocumented(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		if s.test || isFree(s.room) || ast.IsGenerated(s.file) {
			return
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc.Text() == "" && (d.Recv == nil || receiverExported(d)) {
					t.Errorf("%s: %s is exported and not documented", s.at(d), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumented(s, d, func(n ast.Node, name string) {
					t.Errorf("%s: %s is exported and not documented", s.at(n), name)
				})
			}
		}
	})
}

// undocumented reports exported types, constants and variables without a doc of their own or of their group.
func undocumented(s source, d *ast.GenDecl, report func(n ast.Node, name string)) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && d.Doc.Text() == "" && spec.Doc.Text() == "" {
				report(spec, spec.Name.Name)
			}
		case *ast.ValueSpec:
			if d.Tok == token.IMPORT || d.Doc.Text() != "" || spec.Doc.Text() != "" || spec.Comment.Text() != "" {
				continue
			}
			for _, n := range spec.Names {
				if n.IsExported() {
					report(spec, n.Name)
				}
			}
		}
	}
}

func receiverExported(d *ast.FuncDecl) bool {
	x := d.Recv.List[0].Type
	if star, ok := x.(*ast.StarExpr); ok {
		x = star.X
	}
	if index, ok := x.(*ast.IndexExpr); ok {
		x = index.X
	}
	id, ok := x.(*ast.Ident)
	return ok && id.IsExported()
}

// leftover finds notes that their writer left to himself. The words are put together so that this file has none.
var leftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func TestNothingIsLeftToDo(t *testing.T) {
	t.Parallel()
	err := walk(func(name string) error {
		if !strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, ".md") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := leftover.FindString(line); m != "" {
				t.Errorf("%s:%d: %s: do it, or describe it in docs", name, i+1, m)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
