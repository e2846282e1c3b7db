package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// sample is a report with a line of every kind.
func sample() *Report {
	programs := []Program{{Name: oursName}, {Name: "etcd37"}}
	put := Scenario{Name: "put | <b>", Shape: threeTLS, Primary: CPU}
	get := Scenario{Name: "get", Shape: one, Primary: Rate}
	turn := func(rate, cpu float64) Turn {
		return Turn{Operations: 9, Metrics: map[Metric]float64{Rate: rate, CPU: cpu, Took: 0.25}}
	}
	return &Report{Programs: programs, Sizes: quickSizes, Seconds: 61, Lines: []Line{
		newLine(&put, programs, map[string][]Turn{
			oursName: {turn(900, 1e-3), turn(900, 2e-3), turn(900, 3e-3)},
			"etcd37": {turn(1000, 4e-3), turn(1000, 4e-3), turn(1000, 4e-3)}}),
		newLine(&get, programs, map[string][]Turn{oursName: {turn(500, 1)}, "etcd37": {turn(1000, 2)}}),
		newLine(&get, programs, map[string][]Turn{oursName: {turn(1, 1)}, "etcd37": {failedTurn(errors.New("no\nanswer"))}}),
		newLine(&get, nil, nil),
	}}
}

func TestTableShowsEveryLine(t *testing.T) {
	t.Parallel()
	text := sample().table()
	for _, want := range []string{
		"put / <b> · 3 members, mTLS", "0.50× (0.25×–0.75× of 3), ahead; behind in ops/s", // by CPU/op
		"ops/s 0.50× (0.50×–0.50× of 1), behind", "FAILED: no answer", "not run", "took 250 ms", "1,000", "2.00 ms",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table has no %q:\n%s", want, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	bars := strings.Count(lines[0], "|")
	for _, l := range lines {
		if strings.Count(l, "|") != bars {
			t.Errorf("a row has %d cells, the head %d: %s", strings.Count(l, "|")-1, bars-1, l)
		}
		if i := strings.LastIndex(l[:len(l)-1], "|"); utf8.RuneCountInString(l[:i]) != utf8.RuneCountInString(lines[1][:strings.LastIndex(lines[1][:len(lines[1])-1], "|")]) {
			t.Errorf("a row is not aligned: %s", l)
		}
	}
}

func TestBriefHasARowForEveryLine(t *testing.T) {
	t.Parallel()
	rest := Scenario{Name: "puts beside a snapshot", Shape: one, Primary: P99}
	r := sample()
	r.Lines = append(r.Lines, newLine(&rest, r.Programs, map[string][]Turn{
		oursName: {{Metrics: map[Metric]float64{P99: 0.005, Stretch: 2}}}, goalName: {{Metrics: map[Metric]float64{P99: 0.01, Stretch: 9}}}}))
	got := strings.Split(strings.TrimSpace(r.brief()), "\n")[2:]
	want := [][]string{
		{"put / <b> · 3 members, mTLS", "CPU/op", "2.00 ms", "4.00 ms", "0.50× (0.25×–0.75× of 3)", "ahead", "", "ops/s"},
		{"get · 1 member", "ops/s", "500", "1,000", "0.50× (0.50×–0.50× of 1)", "behind", "", ""},
		{"get · 1 member", "ops/s", "1.00", "", "", "not compared", "etcd37 FAILED: no answer", ""},
		{"get · 1 member", "ops/s", "", "", "", "not compared", "not run", ""},
		{"puts beside a snapshot · 1 member", "p99", "5.00 ms", "10.0 ms", "0.50× (0.50×–0.50× of 1)", "ahead", "stretch 2.00×, ≤ 1.50× MISSED", ""},
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows, not %d:\n%s", len(got), len(want), r.brief())
	}
	for i := range want {
		cells := strings.Split(strings.Trim(got[i], "|"), "|")
		for k := range cells {
			cells[k] = strings.TrimSpace(cells[k])
		}
		if !slices.Equal(cells, want[i]) {
			t.Errorf("row %d is %q, not %q", i, cells, want[i])
		}
	}
}

func TestCountTellsFailedLinesFromThoseBehind(t *testing.T) {
	t.Parallel()
	ahead, behind, failed, notRun := sample().count()
	if ahead != 1 || behind != 1 || failed != 1 || notRun != 1 {
		t.Errorf("%d ahead, %d behind, %d failed, %d not run", ahead, behind, failed, notRun)
	}
	if got, want := sample().summary(), "1 ahead, 1 behind (by the first metric of a line), 1 failed, 1 not run; 0 of 0 goals reached; in 01:01"; got != want {
		t.Errorf("the summary is %q, not %q", got, want)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	programs := []Program{{Name: oursName}, {Name: goalName}, {Name: "etcd34"}}
	for _, c := range []struct {
		name, scenario string
		shape          Shape
		ours, theirs   map[Metric]float64
		want           string
		reached        int
	}{
		{"a ratio within its limit reaches the goal", "memory at rest", one, map[Metric]float64{Rest: 4}, map[Metric]float64{Rest: 8}, "goal at rest ≤ 0.50× reached", 1},
		{"a ratio above it misses the goal", "memory at rest", one, map[Metric]float64{Rest: 5}, map[Metric]float64{Rest: 8}, "GOAL at rest ≤ 0.50× MISSED", 0},
		{"of a rate more is better", "put 256 B, prebuilt frames", threeTLS, map[Metric]float64{Rate: 30}, map[Metric]float64{Rate: 10}, "goal ops/s ≥ 3.00× reached", 1},
		{"ours alone is compared where the goal says so", "puts beside a snapshot", one, map[Metric]float64{Stretch: 2}, map[Metric]float64{Stretch: 9}, "GOAL stretch ≤ 1.50× MISSED", 0},
		{"what was not measured is missed", "memory at rest", one, nil, map[Metric]float64{Rest: 8}, "was not measured; GOAL", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := Scenario{Name: c.scenario, Shape: c.shape, Primary: goalsOf(&Scenario{Name: c.scenario, Shape: c.shape})[0].Metric}
			r := Report{Lines: []Line{newLine(&s, programs, map[string][]Turn{
				oursName: {{Metrics: c.ours}}, goalName: {{Metrics: c.theirs}}, "etcd34": {{Metrics: c.theirs}}})}}
			if text := r.table(); strings.Count(text, c.want) != 1 {
				t.Errorf("the table does not have %q once:\n%s", c.want, text)
			}
			if reached, all := r.goals(); reached != c.reached || all != 1 {
				t.Errorf("%d of %d goals were reached", reached, all)
			}
		})
	}
}

// TestEveryGoalHasItsLine: a line that is renamed must not lose its goal.
func TestEveryGoalHasItsLine(t *testing.T) {
	t.Parallel()
	n := 0
	for _, s := range scenarios() {
		n += len(goalsOf(&s))
	}
	const want = 4 + 8 + 4 + 1 + 1 + 1 + 1 + 2 + 1 + 3 // in the order of goalsOf
	if n != want {
		t.Errorf("the lines have %d goals, not %d", n, want)
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*Report{"with lines": sample(), "without any": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := r.writePlot(&out, "etcd37"); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
				t.Errorf("a coordinate is no number:\n%s", out.String())
			}
			rectangles := 0
			for dec := xml.NewDecoder(&out); ; {
				token, err := dec.Token()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
					rectangles++
				}
			}
			if want := 1 + len(r.bars("etcd37")); rectangles != want {
				t.Errorf("there are %d rectangles, not %d", rectangles, want)
			}
		})
	}
}

func TestPlotHasALineWhereBothAreAlike(t *testing.T) {
	t.Parallel()
	programs := []Program{{Name: oursName}, {Name: "etcd37"}}
	s := Scenario{Name: "page", Shape: one, Primary: Rate}
	for _, rate := range []float64{0.01, 0.3, 1, 5, 3000, 1e6} {
		r := Report{Lines: []Line{newLine(&s, programs, map[string][]Turn{oursName: {turnWith(Rate, rate)}, "etcd37": {turnWith(Rate, 1)}})}}
		var out bytes.Buffer
		if err := r.writePlot(&out, "etcd37"); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), ">1×<"); n != 1 {
			t.Errorf("at a ratio of %g there are %d lines of 1", rate, n)
		}
	}
}

func TestBarsShowHowManyTimesBetter(t *testing.T) {
	t.Parallel()
	bars := sample().bars("etcd37")
	if len(bars) != 2 {
		t.Fatalf("%d bars", len(bars))
	}
	if b := bars[0]; b.median != 2 || b.lo != 4.0/3 || b.hi != 4 {
		t.Errorf("half of the CPU time is not twice as good: %+v", b)
	}
	if b := bars[1]; b.median != 0.5 {
		t.Errorf("half of the rate is not half as good: %+v", b)
	}
}

func TestReportIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := sample()
	var out bytes.Buffer
	if err := r.writeJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.table() != r.table() {
		t.Errorf("the table differs:\n%s\n%s", back.table(), r.table())
	}
	if err := r.save(dir); err != nil {
		t.Error(err)
	}
	if err := r.save(dir + "/table.md/below-a-file"); err == nil {
		t.Error("a report was saved below a file")
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ got, want string }{
		{formatSeconds(1.5), "1.50 s"}, {formatSeconds(0.0123), "12.3 ms"}, {formatSeconds(45e-6), "45.0 µs"}, {formatSeconds(0), "0.00 µs"},
		{formatBytes(512), "512 B"}, {formatBytes(1536), "1.50 KiB"}, {formatBytes(300 << 20), "300 MiB"}, {formatBytes(2 << 30), "2.00 GiB"},
		{formatCount(7), "7.00"}, {formatCount(999), "999"}, {formatCount(1000), "1,000"}, {formatCount(1234567), "1,234,567"},
		{formatRatio(0.05), "0.050×"}, {formatRatio(0.5), "0.50×"}, {formatRatio(12), "12.0×"}, {formatRatio(1500), "1,500×"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
}
