package observe

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// expression is a question to Prometheus, with the labels that its place uses besides: in a legend or an annotation.
type expression struct {
	where, text string
	shown       []string
}

// Labels that Prometheus adds, and metrics that it makes itself.
var (
	added    = []string{"job", "instance"}
	itsOwn   = []string{"up"}
	keywords = []string{"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
)

var (
	shownLegend     = regexp.MustCompile(`\{\{(\w+)\}\}`)
	shownAnnotation = regexp.MustCompile(`\$labels\.(\w+)`)
)

// shown returns what a pattern finds in a text.
func shown(pattern *regexp.Regexp, text string) (names []string) {
	for _, m := range pattern.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func alerts(t *testing.T) (out []expression) {
	t.Helper()
	b, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(b, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] || r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
				t.Errorf("%s: an alert needs a name of its own, a severity and a summary", r.Alert)
			}
			seen[r.Alert] = true
			out = append(out, expression{r.Alert, r.Expr, shown(shownAnnotation, r.Annotations["summary"])})
		}
	}
	return out
}

func panels(t *testing.T) (out []expression) {
	t.Helper()
	b, err := os.ReadFile("../../deploy/grafana/ashlar.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				Expr   string `json:"expr"`
				Legend string `json:"legendFormat"`
			} `json:"targets"`
		} `json:"panels"`
		Templating struct {
			List []struct {
				Name  string          `json:"name"`
				Type  string          `json:"type"`
				Query json.RawMessage `json:"query"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels with the id %d", p.ID)
		}
		ids[p.ID] = true
		for _, x := range p.Targets {
			out = append(out, expression{p.Title, x.Expr, shown(shownLegend, x.Legend)})
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), \w+\)$`)
	for _, v := range board.Templating.List {
		var q struct{ Query string }
		if v.Type == "query" {
			if err := json.Unmarshal(v.Query, &q); err != nil || !values.MatchString(q.Query) {
				t.Fatalf("the variable %s asks %s: %v", v.Name, v.Query, err)
			}
			out = append(out, expression{"variable " + v.Name, values.FindStringSubmatch(q.Query)[1], nil})
		}
	}
	return out
}

// token is a word, a string or one character of an expression.
var token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[0-9.]+(?:[eE][+-]?[0-9]+)?|[a-zA-Z_:][a-zA-Z0-9_:]*|[-+*/%^=!<>~(){},]`)

// check says what in an expression a scrape does not have.
func (s scrape) check(e expression) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	tokens := token.FindAllString(e.text, -1)
	if rest := strings.Join(strings.Fields(token.ReplaceAllString(e.text, "")), ""); rest != "" {
		complain("cannot read %q", rest)
	}
	at := func(i int) string {
		if i < len(tokens) {
			return tokens[i]
		}
		return ""
	}
	var metrics, grouped []string
	depth := 0
	for i := 0; i < len(tokens); i++ {
		x := tokens[i]
		switch {
		case x == "(":
			depth++
		case x == ")":
			depth--
		case !regexp.MustCompile(`^[a-zA-Z_:]`).MatchString(x):
		case slices.Contains(keywords, x):
			if at(i+1) == "(" && x != "and" && x != "or" && x != "unless" && x != "bool" {
				for i += 2; at(i) != ")" && i < len(tokens); i++ {
					if at(i) != "," {
						grouped = append(grouped, at(i))
					}
				}
			}
		case at(i+1) == "(" || at(i+1) == "by": // a function
		default:
			metrics = append(metrics, x)
			f := s.families[base(x, s.families)]
			if f == nil && !slices.Contains(itsOwn, x) {
				complain("no metric %s", x)
				continue
			}
			if f != nil && f.kind == "histogram" && base(x, s.families) == x {
				complain("%s is a histogram: it has _bucket, _sum and _count", x)
			}
			if at(i+1) != "{" {
				continue
			}
			for i += 2; at(i) != "}" && i < len(tokens); i++ {
				if regexp.MustCompile(`^[a-zA-Z_]`).MatchString(at(i)) && !slices.Contains(added, at(i)) && !s.has([]string{x}, at(i)) {
					complain("%s has no label %s", x, at(i))
				}
			}
		}
	}
	if depth != 0 {
		complain("parentheses do not match")
	}
	if len(metrics) == 0 {
		complain("asks for no metric")
	}
	for _, l := range append(grouped, e.shown...) {
		if !slices.Contains(added, l) && !s.has(metrics, l) {
			complain("none of %v has a label %s", metrics, l)
		}
	}
	return wrong
}

// has says whether one of the metrics has a label.
func (s scrape) has(metrics []string, label string) bool {
	return slices.ContainsFunc(metrics, func(m string) bool {
		f := s.families[base(m, s.families)]
		return f != nil && (f.labels[label] || label == "le" && strings.HasSuffix(m, "_bucket"))
	})
}

func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	t.Parallel()
	asked := append(alerts(t), panels(t)...)
	if len(asked) < 60 {
		t.Fatalf("only %d expressions", len(asked))
	}
	members := start(t, 3, extensive)
	exercise(t, members)
	eventually(t, func() string {
		s := all(t, members)
		var wrong []string
		for _, e := range asked {
			for _, complaint := range s.check(e) {
				wrong = append(wrong, e.where+": "+complaint+": "+e.text)
			}
		}
		return strings.Join(wrong, "\n")
	})
}

func TestAnExpressionThatAsksForSomethingElseIsFound(t *testing.T) {
	t.Parallel()
	s := parse(t, `# TYPE a_total counter
a_total{x="1"} 1
# TYPE h histogram
h_bucket{y="1",le="1"} 1
h_bucket{y="1",le="+Inf"} 1
h_sum{y="1"} 1
h_count{y="1"} 1
`)
	for text, right := range map[string]bool{
		`a_total`: true, `rate(a_total{x="b", job=~"c"}[5m]) > 0.5`: true, `sum by (x) (a_total) / on (x) a_total`: true,
		`histogram_quantile(0.9, sum by (y, le) (rate(h_bucket[5m])))`: true, `up{job="a"} == 0`: true,
		`b_total`: false, `a_total{y="1"}`: false, `sum by (y) (a_total)`: false, `rate(h[5m])`: false, `1 + 2`: false,
		`sum(a_total`: false, `a_total ? 1`: false, `sum by (le) (a_total)`: false, `max without (z) (a_total)`: false,
	} {
		if wrong := s.check(expression{text: text}); (len(wrong) == 0) != right {
			t.Errorf("%s: %v", text, wrong)
		}
	}
	if wrong := s.check(expression{text: "a_total", shown: []string{"y"}}); len(wrong) == 0 {
		t.Error("a label that is shown and not there was not found")
	}
}
