package tidy

import (
	"go/ast"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ban is a function that may not be called.
type ban struct {
	pkg   string
	names []string
	rooms []string // empty: everywhere
	not   []string // but not in these rooms
	tests bool     // in tests too
	why   string
}

var clockRooms = append(slices.Clone(deterministic), "internal/consensus")

var bans = []ban{
	{pkg: "time", names: []string{"Sleep"}, tests: true, why: "wait on a condition, or on internal/clock"},
	{pkg: "time", names: []string{"Now", "Since", "Until", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, rooms: clockRooms,
		why: "the same log must give the same bytes on every member; loops take a clock.Clock"},
	{pkg: "os", names: []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, not: []string{"cmd/ashlar"},
		why: "the environment is read once, in main, and handed on"},
	{pkg: "os", names: []string{"Exit"}, not: []string{"cmd/ashlar"}, why: "only the program ends the process, so that others can embed us"},
	{pkg: "log/slog", names: []string{"Default", "SetDefault", "Info", "Warn", "Error", "Debug"},
		why: "a logger is passed on, never taken from the air"},
}

func TestNoBannedCalls(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		s.calls(func(n ast.Node, pkg, name string) {
			for _, b := range bans {
				if pkg != b.pkg || !slices.Contains(b.names, name) || s.test && !b.tests {
					continue
				}
				if (len(b.rooms) == 0 || slices.Contains(b.rooms, s.room)) && !slices.Contains(b.not, s.room) && !isTestRoom(s, b) {
					t.Errorf("%s: %s.%s: %s", s.at(n), pkg, name, b.why)
				}
			}
		})
	})
}

// isTestRoom lets packages that exist for tests do what tests may do.
func isTestRoom(s source, b ban) bool { return !b.tests && isFree(s.room) }

// templates are the packages that carry out templates, and the methods of commands that make them do so.
var (
	templatePackages = []string{"text/template", "html/template"}
	templateMethods  = []string{"SetUsageTemplate", "SetHelpTemplate", "SetVersionTemplate"}
)

// TestNothingCarriesOutTemplates: a template may call any method by its name, so the linker keeps those of all types. The program is an eighth
// larger then, and all of it is in memory.
func TestNothingCarriesOutTemplates(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		if s.test || isFree(s.room) {
			return
		}
		for _, i := range s.file.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); slices.Contains(templatePackages, path) {
				t.Errorf("%s: imports %s", s.at(i), path)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(templateMethods, sel.Sel.Name) {
				t.Errorf("%s: %s: take a function", s.at(n), sel.Sel.Name)
			}
			return true
		})
	})
}

// nanosecondsAllowed are files that ask for the nanoseconds since 1970 all the same, and why.
var nanosecondsAllowed = map[string]string{
	"internal/rpc/watchpace.go": "a pause is bounded whatever the clock does",
}

// TestNoTimeIsMeasuredByTheCalendar: whoever sets the clock of a machine must not make a disk stand still, or a certificate stay. What
// time.Time.Sub returns does not follow the calendar.
func TestNoTimeIsMeasuredByTheCalendar(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		if s.test || isFree(s.room) || !strings.HasPrefix(s.path, "internal/") || nanosecondsAllowed[s.path] != "" {
			return
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "UnixNano" {
				t.Errorf("%s: UnixNano: keep a time.Time, and subtract", s.at(n))
			}
			return true
		})
	})
}

// panicsAllowed are files whose panics pass on what they were handed, and why.
var panicsAllowed = map[string]string{
	"internal/storage/options.go":   "the default of Fatal, for callers that have no better way to end",
	"internal/consensus/storage.go": "raft's Logger interface asks for Panic and Fatal",
}

// TestPanicsSayWhy: a panic is a decision to end the process; its text, or a comment at it, says which bug it means.
func TestPanicsSayWhy(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		if s.test || isFree(s.room) || s.room == "internal/invariant" || panicsAllowed[s.path] != "" {
			return
		}
		explained := map[int]bool{}
		for _, g := range s.file.Comments {
			last := s.set.Position(g.End()).Line
			explained[last], explained[last+1] = true, true
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.Ident)
			if ok && f.Name == "panic" && !explained[s.set.Position(n.Pos()).Line] && !holdsText(call) {
				t.Errorf("%s: a panic that does not say which bug it means", s.at(n))
			}
			return true
		})
	})
}

// holdsText tells whether a string stands in the arguments.
func holdsText(call *ast.CallExpr) bool {
	found := false
	ast.Inspect(call, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		found = found || ok && lit.Kind == token.STRING
		return !found
	})
	return found
}

func TestSkippedTestsSayWhy(t *testing.T) {
	t.Parallel()
	everyFile(t, func(s source) {
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && (sel.Sel.Name == "SkipNow" || strings.HasPrefix(sel.Sel.Name, "Skip")) && len(call.Args) == 0 &&
				isTestingValue(sel.X) {
				t.Errorf("%s: a test is skipped without a reason", s.at(n))
			}
			return true
		})
	})
}

func isTestingValue(x ast.Expr) bool {
	id, ok := x.(*ast.Ident)
	return ok && slices.Contains([]string{"t", "b", "tb", "f"}, id.Name)
}
