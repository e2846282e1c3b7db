package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// flagFacts is the list of etcd's flags that this package is checked against where it is at hand.
const flagFacts = "../../../shared/cli/flags.md"

// fact is one line of the list.
type fact struct{ group, name, env, kind, def, key string }

// serverFacts reads the tables of server flags: those between "## Server" and the first sub-command.
func serverFacts(t *testing.T) []fact {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(flagFacts))
	if err != nil {
		t.Skipf("SKIPPED TestTableHoldsEveryFlagOfEtcd: the list of etcd's flags is not here (%s)", flagFacts)
	}
	var out []fact
	group := ""
	_, server, _ := strings.Cut(string(text), "\n## Server\n")
	for _, line := range strings.Split(server, "\n") {
		if g, ok := strings.CutPrefix(line, "### "); ok {
			group = g
		}
		if group == "Sections of the configuration file" {
			break
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || !strings.HasPrefix(cells[0], "| `--") {
			continue
		}
		out = append(out, fact{group: group, name: strings.Trim(cells[0], "|` -"), env: strings.Trim(cells[1], "` "),
			kind: cells[2], def: factDefault(cells[3]), key: strings.Trim(cells[4], "|` ")})
	}
	return out
}

// factDefault reads a default such as "`5s`", "0 (works as 2 GiB)" or "empty (works as …)".
func factDefault(cell string) string {
	cell = strings.TrimSpace(cell)
	if q, ok := strings.CutPrefix(cell, "`"); ok {
		return strings.TrimSuffix(q, "`")
	}
	if strings.HasPrefix(cell, "{") {
		return cell
	}
	first, _, _ := strings.Cut(cell, " ")
	if first == "empty" {
		return ""
	}
	return first
}

func TestTableHoldsEveryFlagOfEtcd(t *testing.T) {
	t.Parallel()
	facts := serverFacts(t)
	if len(facts) < 100 {
		t.Fatalf("read only %d flags of the list", len(facts))
	}
	known := map[string]bool{}
	for _, want := range facts {
		known[want.name] = true
		got, ok := rowOf(want.name)
		if !ok {
			t.Errorf("--%s is missing", want.name)
			continue
		}
		if got.Env() != want.env {
			t.Errorf("--%s: variable %s, want %s", want.name, got.Env(), want.env)
		}
		if key := strings.TrimPrefix(want.key, "-"); got.Key != key {
			t.Errorf("--%s: key %q, want %q", want.name, got.Key, key)
		}
		if got.Default != want.def {
			t.Errorf("--%s: default %q, want %q", want.name, got.Default, want.def)
		}
		if g := string(got.Group); g != want.group && got.Group != Hidden {
			t.Errorf("--%s: group %q, want %q", want.name, g, want.group)
		}
		if isBool := got.bind(new(Config)).IsBoolFlag(); isBool != (want.kind == "bool") {
			t.Errorf("--%s: boolean %v, but its type is %s", want.name, isBool, want.kind)
		}
	}
	for _, f := range Flags() {
		if f.Name != "" && !known[f.Name] && f.Group != Audit {
			t.Errorf("--%s is in the table but etcd does not have it", f.Name)
		}
	}
}

func TestEveryRowSaysWhatItDoes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, f := range Flags() {
		if seen[f.label()] {
			t.Errorf("%s stands twice in the table", f.label())
		}
		seen[f.label()] = true
		if f.Name != "" && f.Usage == "" {
			t.Errorf("%s has no usage", f.label())
		}
		if f.Status != Built && f.Note == "" {
			t.Errorf("%s is %s but says not why", f.label(), f.Status)
		}
	}
}

// TestCompatibilityPageListsEverySettingWithoutEffect keeps docs/compatibility.md true.
func TestCompatibilityPageListsEverySettingWithoutEffect(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "### Accepted without effect")
	accepted, _, _ := strings.Cut(rest, "\n##")
	for _, f := range Flags() {
		quoted := "`--" + f.Name + "`"
		if f.Name == "" {
			continue
		}
		if got := strings.Contains(accepted, quoted); got != (f.Status == Accepted) {
			t.Errorf("%s is %s; the list of flags without effect holds it: %v", quoted, f.Status, got)
		}
	}
	for name := range gateDefaults {
		_, idle := idleGates[name]
		if got := strings.Contains(accepted, name); got != idle {
			t.Errorf("gate %s has no effect: %v; the list says: %v", name, idle, got)
		}
	}
}
