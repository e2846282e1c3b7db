package kube

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var kubernetes = flag.String("kubernetes", "", "directories of the modules k8s.io/api, apimachinery, kube-aggregator and "+
	"apiextensions-apiserver, separated by commas: names.txt is written anew from their types")

// typePackages are where objects that are stored, and what they are made of, are declared.
var typePackages = []string{"*/v*", "pkg/apis/meta/v1", "pkg/apis/apiregistration/v*", "pkg/apis/apiextensions/v*", "pkg/types"}

// source is the declared types of one package, by name.
type source struct {
	name  string // the last two parts of its path, with a dot
	types map[string]declared
}

type declared struct {
	expr    ast.Expr
	imports map[string]string // the package's path, by the name it has in the file
}

// special are types whose form in protobuf or JSON is not that of their fields.
var special = map[string]string{"meta.v1.Time": "time", "meta.v1.MicroTime": "time", "meta.v1.Duration": "duration",
	"meta.v1.FieldsV1": "json", "api.resource.Quantity": "quantity", "util.intstr.IntOrString": "intorstring",
	"pkg.runtime.RawExtension": "json", "apiextensions.v1.JSON": "json", "apiextensions.v1beta1.JSON": "json", "pkg.types.UID": "text"}

func shortName(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[max(0, len(parts)-2):], ".")
}

// TestNames writes names.txt when the sources are named; otherwise nothing is to be done.
func TestNames(t *testing.T) {
	t.Parallel()
	if *kubernetes == "" {
		return
	}
	sources := map[string]*source{}
	for _, module := range strings.Split(*kubernetes, ",") {
		for _, pattern := range typePackages {
			dirs, err := filepath.Glob(filepath.Join(module, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range dirs {
				s := readPackage(t, dir)
				sources[s.name] = s
			}
		}
	}
	g := &generator{t: t, sources: sources, done: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		for _, kind := range slices.Sorted(maps.Keys(sources[name].types)) {
			if fields, ok := sources[name].types[kind].expr.(*ast.StructType); ok && isObject(fields) {
				g.message(name, kind)
			}
		}
	}
	slices.Sort(g.out)
	text := "# Fields of the objects that Kubernetes stores: number, name in JSON, type. ? is left out when it is zero, a name - is\n" +
		"# not there in JSON: its fields stand beside it. Written by: go test ./internal/kube -run TestNames -kubernetes DIRECTORIES\n" +
		strings.Join(g.out, "")
	if err := os.WriteFile("names.txt", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readPackage(t *testing.T, dir string) *source {
	t.Helper()
	s := &source{name: shortName(filepath.ToSlash(dir)), types: map[string]declared{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.Contains(filepath.Base(name), "generated") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		imports := map[string]string{}
		for _, i := range file.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			as := filepath.Base(path)
			if i.Name != nil {
				as = i.Name.Name
			}
			imports[as] = shortName(path)
		}
		for _, d := range file.Decls {
			if d, ok := d.(*ast.GenDecl); ok {
				for _, spec := range d.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						s.types[spec.Name.Name] = declared{spec.Type, imports}
					}
				}
			}
		}
	}
	return s
}

// isObject tells whether a type has metadata of its own, as what is stored has.
func isObject(s *ast.StructType) bool {
	return slices.ContainsFunc(s.Fields.List, func(f *ast.Field) bool {
		x, ok := f.Type.(*ast.SelectorExpr)
		return ok && len(f.Names) == 0 && x.Sel.Name == "ObjectMeta"
	})
}

// generator writes messages and all that they are made of.
type generator struct {
	t       *testing.T
	sources map[string]*source
	done    map[string]bool
	out     []string
}

func (g *generator) message(pkg, name string) {
	full := pkg + "." + name
	if g.done[full] {
		return
	}
	g.done[full] = true
	d := g.sources[pkg].types[name]
	var text strings.Builder
	fmt.Fprintln(&text, full)
	for _, f := range d.expr.(*ast.StructType).Fields.List {
		if f.Tag == nil {
			continue
		}
		raw, _ := strconv.Unquote(f.Tag.Value)
		tag := reflect.StructTag(raw)
		parts := strings.Split(tag.Get("protobuf"), ",")
		if len(parts) < 4 {
			continue
		}
		json, options, _ := strings.Cut(tag.Get("json"), ",")
		if json == "" {
			json = strings.TrimPrefix(parts[3], "name=")
		}
		if options == "inline" {
			json = "-"
		}
		kind := g.kind(pkg, f.Type, d.imports)
		if _, pointer := f.Type.(*ast.StarExpr); !pointer && strings.Contains(options, "omitempty") {
			kind += "?"
		}
		fmt.Fprintln(&text, parts[1], json, kind)
	}
	g.out = append(g.out, text.String())
}

// kind returns the form of a type. What has none that is known here is guessed when it is read.
func (g *generator) kind(pkg string, x ast.Expr, imports map[string]string) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return g.kind(pkg, x.X, imports)
	case *ast.ArrayType:
		if id, ok := x.Elt.(*ast.Ident); ok && id.Name == "byte" {
			return "bytes"
		}
		return "[]" + g.kind(pkg, x.Elt, imports)
	case *ast.MapType:
		value := g.kind(pkg, x.Value, imports)
		if strings.HasPrefix(value, "[]") {
			value = "guess" // a list is a message of its own there
		}
		return "map:" + value
	case *ast.SelectorExpr:
		return g.named(imports[x.X.(*ast.Ident).Name], x.Sel.Name)
	case *ast.Ident:
		switch x.Name {
		case "string":
			return "text"
		case "bool":
			return "bool"
		case "float64":
			return "float"
		case "int", "int32", "int64", "uint32", "uint64":
			return "int"
		}
		return g.named(pkg, x.Name)
	}
	return "guess"
}

func (g *generator) named(pkg, name string) string {
	if s, ok := special[pkg+"."+name]; ok {
		return s
	}
	s := g.sources[pkg]
	if s == nil {
		g.t.Logf("%s.%s is not declared in the sources", pkg, name)
		return "guess"
	}
	d, ok := s.types[name]
	if !ok {
		g.t.Fatalf("%s.%s is not declared", pkg, name)
	}
	if _, ok := d.expr.(*ast.StructType); !ok {
		return g.kind(pkg, d.expr, d.imports)
	}
	g.message(pkg, name)
	return pkg + "." + name
}
