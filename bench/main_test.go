package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// operationFunc makes an operation of a function that needs no context.
func operationFunc(do func(client, i int) error) operation {
	return func(_ context.Context, client, i int) error { return do(client, i) }
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args, failure string
		check               func(o *options) bool
	}{
		{"without any the run is full", "", "", func(o *options) bool { return o.sizes == fullSizes && o.only.MatchString("anything") }},
		{"a quick run ends within five minutes", "--quick", "", func(o *options) bool { return o.sizes.Budget < 5*time.Minute }},
		{"rounds hold for slow lines at most", "--rounds 1", "", func(o *options) bool { return o.sizes.Rounds == 1 && o.sizes.SlowMax == 1 }},
		{"a budget replaces that of the sizes", "--budget 20m", "", func(o *options) bool { return o.sizes.Budget == 20*time.Minute }},
		{"a scale leaves what cannot be scaled", "--scale 0.0001", "", func(o *options) bool {
			return o.sizes.Keys == sizesMin.Keys && o.sizes.Copies == 1 && o.sizes.Rounds == fullSizes.Rounds && o.sizes.Most == sizesMin.Most
		}},
		{"a scale of nothing is refused", "--scale 0", "--scale", nil},
		{"a pattern that is none is refused", "--only [", "--only", nil},
		{"a port too high for a run is refused", "--base-port 65535", "--base-port", nil},
		{"what is no flag is refused", "quick", "not a flag", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o, err := parse(strings.Fields(c.args), &bytes.Buffer{})
			switch {
			case c.failure == "" && err != nil:
				t.Error(err)
			case c.failure == "" && !c.check(o):
				t.Errorf("%+v", o)
			case c.failure != "" && (err == nil || !strings.Contains(err.Error(), c.failure)):
				t.Errorf("the error is %v, and should have %q", err, c.failure)
			}
		})
	}
	var usage bytes.Buffer
	if _, err := parse([]string{"--help"}, &usage); !errors.Is(err, flag.ErrHelp) || !strings.Contains(usage.String(), "-quick") {
		t.Errorf("%v, %s", err, usage.String())
	}
}

func TestLinesHaveNamesOfTheirOwnAndStandInGroups(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	var groups []group
	for _, s := range scenarios() {
		if names[s.title()] {
			t.Errorf("two lines are called %s", s.title())
		}
		names[s.title()] = true
		if m := metricOf(s.Primary); m == nil || !m.ours || s.run == nil {
			t.Errorf("%s is not about a metric of the server", s.title())
		}
		if len(groups) == 0 || groups[len(groups)-1] != s.group() {
			if slices.Contains(groups, s.group()) {
				t.Errorf("%s stands apart from its group", s.title())
			}
			groups = append(groups, s.group())
		}
	}
	if len(names) < 50 {
		t.Errorf("there are %d lines only", len(names))
	}
}

func TestNoLineMatches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := command(t.Context(), []string{"--list", "--only", "no such line"}, &out, &out); err == nil {
		t.Error("no error")
	}
	if err := command(t.Context(), []string{"--list", "--only", "^Kubernetes"}, &out, &out); err != nil || out.String() != "Kubernetes day · 1 member\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

func TestCoresAreDisjoint(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ all, servers, client []int }{
		{[]int{0}, nil, nil},
		{[]int{2, 5}, []int{5}, []int{2}},
		{[]int{0, 1, 2, 3, 4, 5, 6, 7}, []int{2, 3, 4, 5, 6, 7}, []int{0, 1}},
	} {
		if got := disjoint(c.all); !slices.Equal(got.servers, c.servers) || !slices.Equal(got.client, c.client) {
			t.Errorf("%v is divided as %+v", c.all, got)
		}
	}
}

// fakeRun is a run of lines that need no server: of the programs, which are started, none exists.
func fakeRun(t *testing.T, budget time.Duration, lines ...Scenario) (*run, *bytes.Buffer) {
	var progress bytes.Buffer
	sizes := quickSizes.scaled(0.01)
	sizes.Budget = budget
	return &run{programs: []Program{{Name: oursName, path: filepath.Join(t.TempDir(), "absent")}}, lines: lines, sizes: sizes,
		dir: t.TempDir(), ports: &ports{next: firstPort}, progress: &progress}, &progress
}

func TestAServerThatDoesNotStartFailsItsLines(t *testing.T) {
	t.Parallel()
	r, progress := fakeRun(t, time.Minute, Scenario{Name: "never", Shape: one, Primary: CPU, Slow: true})
	lines := r.measure(t.Context())
	if len(lines) != 1 || !lines[0].failed() || !strings.Contains(lines[0].Servers[0].Failed, "starting") {
		t.Errorf("%+v\n%s", lines, progress)
	}
}

func TestAServerWithoutADirectoryFailsItsLines(t *testing.T) {
	t.Parallel()
	r, progress := fakeRun(t, time.Minute, Scenario{Name: "never", Shape: one, Primary: CPU, Slow: true})
	r.dir = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(r.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := r.measure(t.Context())
	if len(lines) != 1 || !lines[0].failed() || !strings.Contains(lines[0].Servers[0].Failed, "directory") {
		t.Errorf("%+v\n%s", lines, progress)
	}
}

func TestWhatHasNoTimeIsNotRun(t *testing.T) {
	t.Parallel()
	r, progress := fakeRun(t, time.Nanosecond, Scenario{Name: "never", Shape: one, Primary: CPU})
	lines := r.measure(t.Context())
	if len(lines) != 1 || len(lines[0].Servers) != 0 || !strings.Contains(progress.String(), errBudget.Error()) {
		t.Errorf("%+v\n%s", lines, progress)
	}
}

func TestTheTimeLeftIsSharedAmongTheLinesLeft(t *testing.T) {
	t.Parallel()
	first, second := Scenario{Name: "a", Shape: one}, Scenario{Name: "b", Shape: three}
	r, _ := fakeRun(t, time.Hour, first, first, second, second)
	r.begin, r.prepared = time.Now(), []time.Duration{4 * time.Minute, 2 * time.Minute}
	for i, want := range []time.Duration{57 * time.Minute / 4, 57 * time.Minute / 3, 30 * time.Minute, time.Hour} {
		if got := r.share(i); got > want || got < want-time.Minute {
			t.Errorf("line %d may take %v, not %v", i, got, want)
		}
	}
}

func TestALineWithGoalsMayTakeLonger(t *testing.T) {
	t.Parallel()
	r, _ := fakeRun(t, time.Hour, Scenario{Name: "full range", Shape: one}, Scenario{Name: "delete, 100 clients", Shape: one}, Scenario{Name: "delete, 100 clients", Shape: one})
	r.begin = time.Now()
	for i, want := range []time.Duration{time.Hour * goalShare / (goalShare + 2), time.Hour / 2, time.Hour} {
		if got := r.share(i); got > want || got < want-time.Minute {
			t.Errorf("line %d may take %v, not %v", i, got, want)
		}
	}
}

func TestServersInheritNoSettings(t *testing.T) {
	t.Parallel()
	got := serverEnvironment([]string{"PATH=/bin", "ETCD_NAME=x", "ASHLAR_NAME=x", "HOME=/"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Errorf("%v", got)
	}
}

func TestLookUpMakesPathsAbsolute(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := lookUp(path); err != nil || got != path {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := lookUp(path + "-absent"); err == nil {
		t.Error("a program that does not exist was found")
	}
}
