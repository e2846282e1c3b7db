package observe

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// family is what metrics of one name have in common.
type family struct {
	kind, help string
	labels     map[string]bool // that any series has, but for le and quantile
	bounds     []float64       // of a histogram
}

// scrape is what metrics were answered: families by name, and the values of series by their text.
type scrape struct {
	families map[string]*family
	values   map[string]float64
}

var series = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
var label = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)

func scraped(t *testing.T, ctx context.Context, address string) scrape {
	t.Helper()
	p, err := get(ctx, "http://"+address+"/metrics")
	if err != nil || p.status != 200 {
		t.Fatalf("%s: %v, %d %s", address, err, p.status, p.body)
	}
	return parse(t, p.body)
}

func parse(t *testing.T, text string) scrape {
	t.Helper()
	s := scrape{make(map[string]*family), make(map[string]float64)}
	of := func(name string) *family {
		if s.families[name] == nil {
			s.families[name] = &family{labels: make(map[string]bool)}
		}
		return s.families[name]
	}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(rest, " ")
			of(name).help = help
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			of(name).kind = kind
			continue
		}
		m := series.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("no series: %q", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		s.values[line[:strings.LastIndex(line, " ")]] = value
		f := of(base(m[1], s.families))
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			switch bound, err := strconv.ParseFloat(l[2], 64); {
			case l[1] == "le" && err == nil && l[2] != "+Inf":
				if !slices.Contains(f.bounds, bound) {
					f.bounds = append(f.bounds, bound)
				}
			case l[1] != "le" && l[1] != "quantile":
				f.labels[l[1]] = true
			}
		}
	}
	return s
}

// base returns the name of the family that a series belongs to.
func base(name string, families map[string]*family) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if short, ok := strings.CutSuffix(name, suffix); ok && families[short] != nil {
			if k := families[short].kind; k == "histogram" || k == "summary" {
				return short
			}
		}
	}
	return name
}

// add takes in the families of another scrape.
func (s scrape) add(x scrape) {
	for name, f := range x.families {
		if mine := s.families[name]; mine == nil {
			s.families[name] = f
		} else {
			maps.Copy(mine.labels, f.labels)
			mine.bounds = slices.Compact(slices.Sorted(slices.Values(append(mine.bounds, f.bounds...))))
		}
	}
}
