package tidy

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestImportsFollowTheTable(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		if isFree(s.room) {
			return
		}
		may, why, known := allowed(s.room)
		if !known {
			t.Errorf("%s: package %s is not in the table of rooms_test.go: add it where it belongs", s.path, s.room)
			return
		}
		for _, imp := range s.file.Imports {
			p := strings.Trim(imp.Path.Value, `"`)
			ours, ok := strings.CutPrefix(p, module+"/")
			if !ok {
				checkFences(t, s, p)
				continue
			}
			if !may[ours] && ours != s.room {
				t.Errorf("%s imports %s: %s", s.at(imp), ours, why)
			}
		}
	})
}

// checkFences reports an import of a package of others that its room may not have.
func checkFences(t *testing.T, s source, imported string) {
	t.Helper()
	if slices.Contains(deterministic, s.room) && !s.test && slices.Contains(impure, imported) {
		t.Errorf("%s imports %s: %s must give the same bytes on every member", s.path, imported, s.room)
	}
	for _, f := range fences {
		if imported != f.prefix && !strings.HasPrefix(imported, strings.TrimSuffix(f.prefix, "/")+"/") {
			continue
		}
		if !slices.Contains(f.rooms, "*") && !slices.Contains(f.rooms, s.room) && !(f.tests && s.test) {
			t.Errorf("%s imports %s: %s", s.path, imported, f.why)
		}
		return
	}
}

func TestTheTableIsALadder(t *testing.T) {
	t.Parallel()
	for i, r := range rooms {
		for _, b := range r.below {
			if j := slices.IndexFunc(rooms, func(x room) bool { return x.name == b }); j < 0 && b != "embed" {
				t.Errorf("%s stands on %s, which the table does not hold", r.name, b)
			} else if j >= i {
				t.Errorf("%s stands on %s, which comes after it", r.name, b)
			}
		}
	}
}

func TestNoPackageHasANameThatSaysNothing(t *testing.T) {
	t.Parallel()
	bad := []string{"common", "helper", "helpers", "utils", "types", "errors", "manager", "base", "misc"}
	everyFile(t, func(s source) {
		name := strings.TrimSuffix(s.file.Name.Name, "_test")
		if slices.Contains(bad, name) {
			t.Errorf("%s: package %s: a package is one noun that a user or the paper knows", s.path, name)
		}
	})
}
