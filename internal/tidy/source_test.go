package tidy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the repository, seen from this package.
const root = "../.."

// source is one Go file.
type source struct {
	path string // from the root, with slashes
	room string // its directory
	test bool
	text []byte
	set  *token.FileSet
	file *ast.File
}

// at returns the position of a node as path:line.
func (s source) at(n ast.Node) string {
	return s.path + ":" + itoa(s.set.Position(n.Pos()).Line)
}

// sources parses every Go file of this module once.
var sources = sync.OnceValues(func() ([]source, error) {
	var out []source
	err := walk(func(name string) error {
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		out = append(out, source{path: name, room: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), text: text,
			set: set, file: file})
		return nil
	})
	return out, err
})

// walk calls f with every file of the repository, leaving out testdata, hidden directories and other modules.
func walk(f func(name string) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if !d.IsDir() {
			return f(filepath.ToSlash(name))
		}
		if name == "." {
			return nil
		}
		_, errMod := os.Stat(filepath.Join(p, "go.mod"))
		if strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || errMod == nil {
			return filepath.SkipDir
		}
		return nil
	})
}

// everyFile runs check on each Go file.
func everyFile(t *testing.T, check func(s source)) {
	t.Helper()
	files, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files", len(files))
	}
	for _, s := range files {
		check(s)
	}
}

// calls runs check on each call of a function of a package, such as time.Now: its import path and its name.
func (s source) calls(check func(n ast.Node, pkg, name string)) {
	imported := map[string]string{}
	for _, imp := range s.file.Imports {
		p := strings.Trim(imp.Path.Value, `"`)
		local := path.Base(p)
		if imp.Name != nil {
			local = imp.Name.Name
		}
		imported[local] = p
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && imported[x.Name] != "" {
			check(n, imported[x.Name], sel.Sel.Name)
		}
		return true
	})
}
