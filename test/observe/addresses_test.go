package observe

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

func TestAddressesServeWhatTheyAreFor(t *testing.T) {
	t.Parallel()
	forHTTP, forMetrics, encrypted := process.FreeAddress(t), process.FreeAddress(t), process.FreeAddress(t)
	members := start(t, 1, func(int) []string {
		return []string{"--listen-client-http-urls=http://" + forHTTP, "--enable-pprof", "--auto-tls",
			"--listen-metrics-urls=http://" + forMetrics + ",https://" + encrypted}
	})
	ctx, c := within(t), connect(t, members[0])
	if _, err := c.Put(ctx, "a", "1"); err != nil {
		t.Fatalf("gRPC at the client address: %v", err)
	}
	if p, err := get(ctx, "http://"+members[0].client+"/health"); err == nil {
		t.Errorf("the client address answers HTTP: %d %s", p.status, p.body)
	}
	const both, only = "both", "only"
	for path, where := range map[string]string{
		"/metrics": both, "/health": both, "/health?serializable=true": both, "/livez": both, "/readyz?verbose": both,
		"/version": only, "/debug/vars": only, "/debug/pprof/": only, "/debug/pprof/goroutine?debug=1": only,
	} {
		if p, err := get(ctx, "http://"+forHTTP+path); err != nil || p.status != http.StatusOK {
			t.Errorf("HTTP %s: %v, %d", path, err, p.status)
		}
		for _, at := range []string{"http://" + forMetrics, "https://" + encrypted} {
			want := http.StatusOK
			if where == only {
				want = http.StatusNotFound
			}
			if p, err := get(ctx, at+path); err != nil || p.status != want {
				t.Errorf("metrics %s%s: %v, %d, want %d", at, path, err, p.status, want)
			}
		}
	}
	for name, want := range map[string]string{"http://" + forHTTP: "*", "http://" + forMetrics: ""} {
		p, err := get(ctx, name+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		if got := p.header.Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%s allows the origin %q, want %q", name, got, want)
		}
		if kind := p.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
			t.Errorf("%s: %s", name, kind)
		}
	}
}

func TestWithoutTheFlagThereAreNoProfiles(t *testing.T) {
	t.Parallel()
	members := start(t, 1, func(int) []string { return nil })
	ctx := within(t)
	for path, want := range map[string]int{"/debug/pprof/": 404, "/debug/pprof/heap": 404, "/debug/vars": 200, "/metrics": 200} {
		if p, err := get(ctx, "http://"+members[0].client+path); err != nil || p.status != want {
			t.Errorf("%s: %v, %d, want %d", path, err, p.status, want)
		}
	}
}
