package ctl

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const someMetrics = `# HELP a is a counter
# TYPE a counter
a 7
b{x="1",y="two \"quoted\" \\ and\nmore"} 1.5e3 1700000000000
b{x="2",y=""} 2
c_bucket{le="0.001"} 90
c_bucket{le="0.002"} 99
c_bucket{le="+Inf"} 100
not_asked_for{ this is no metric
`

func TestMetricsAreRead(t *testing.T) {
	t.Parallel()
	found, err := parseMetrics(strings.NewReader(someMetrics), nameSet("a", "b", "c_bucket"))
	if err != nil {
		t.Fatal(err)
	}
	m := &scraped{samples: found}
	if v, ok := m.one("a"); !ok || v != 7 {
		t.Errorf("got %v, %v", v, ok)
	}
	if got := m.by("b", "y"); len(got) != 2 || got["two \"quoted\" \\ and\nmore"] != 1500 || got[""] != 2 {
		t.Errorf("got %v", got)
	}
	for _, c := range []struct{ part, bound float64 }{{0.5, 0.001}, {0.9, 0.001}, {0.91, 0.002}, {0.99, 0.002}, {1, math.Inf(1)}} {
		if got, ok := m.quantile("c", c.part, 100); !ok || got != c.bound {
			t.Errorf("%v: got %v, %v", c.part, got, ok)
		}
	}
	if _, ok := m.quantile("c", 0.5, 101); ok {
		t.Error("100 values are taken for 101")
	}
	for _, absent := range []*scraped{nil, {}} {
		if _, ok := absent.one("a"); ok || len(absent.by("b", "x")) != 0 {
			t.Error("there is something where nothing was read")
		}
	}
	if _, ok := (*scraped)(nil).quantile("c", 0.5, 1); ok {
		t.Error("nothing has a quantile")
	}
}

func TestWhatIsNoMetric(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "a x", "a{", `a{x="1"`, `a{x=1} 1`, `a{x="1} 1`, `a{x="1\`, "a{}", "a " + strings.Repeat("1", scrapeLineMax)} {
		if got, err := parseMetrics(strings.NewReader(text+"\n"), nameSet("a")); err == nil {
			t.Errorf("%.40q is read as %v", text, got)
		}
	}
}

func FuzzParseMetrics(f *testing.F) {
	f.Add(someMetrics)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseMetrics(strings.NewReader(text), nameSet("a", "b", "c_bucket"))
		if err != nil {
			return
		}
		m := &scraped{samples: found}
		m.one("a")
		m.by("b", "x")
		m.quantile("c", 0.99, 1)
	})
}

func TestAddressesOfPages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		secure         bool
		endpoint, want string
	}{
		{false, "127.0.0.1:2379", "http://127.0.0.1:2379/metrics"},
		{true, "127.0.0.1:2379", "https://127.0.0.1:2379/metrics"},
		{true, "http://h:1/", "http://h:1/metrics"},
		{false, "https://h:1", "https://h:1/metrics"},
	} {
		if got := (&scraper{secure: c.secure}).url(c.endpoint, "/metrics"); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestTheCertificateOfAnEndpoint(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	c := &scraper{client: &http.Client{Transport: &http.Transport{}}}
	state, err := c.serverCertificates(t.Context(), secure.URL)
	if err != nil || !state.PeerCertificates[0].Equal(secure.Certificate()) {
		t.Errorf("got %v", err)
	}
	open := httptest.NewServer(http.NotFoundHandler())
	defer open.Close()
	if state, err := c.serverCertificates(t.Context(), open.URL); state != nil || err != nil {
		t.Errorf("got %v, %v where there is no TLS", state, err)
	}
	address := strings.Replace(open.URL, "http:", "https:", 1)
	if _, err := c.serverCertificates(t.Context(), address); err == nil {
		t.Error("a member without TLS shows a certificate")
	}
	if _, err := c.scrape(t.Context(), open.URL, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}
