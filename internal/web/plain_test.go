package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
)

// observed is a member that is as healthy as it is said to be.
func observed(err error) Options {
	return Options{
		Versions: func() Versions { return Versions{} },
		Member: Member{
			Alarms: func() []string { return nil }, HasLeader: func() bool { return true }, Learner: func() bool { return false },
			Read: func(context.Context, bool) error { return err },
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
		Health:  new(Health),
		Vars:    func() map[string]any { return map[string]any{"file_descriptor_limit": 7} },
	}
}

func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestAnswersOfHealthAreCounted(t *testing.T) {
	t.Parallel()
	well, ill := observed(nil), observed(errors.New("no"))
	ill.Health = well.Health
	for range 2 {
		ask(Handler(well), http.MethodGet, "/health")
	}
	ask(MetricsHandler(ill), http.MethodGet, "/health")
	ask(Handler(ill), http.MethodPost, "/health")
	if p, f := well.Health.Passed.Value(), well.Health.Failed.Value(); p != 2 || f != 1 {
		t.Errorf("%d passed, %d failed", p, f)
	}
}

func TestChecksAreCountedByTheirResult(t *testing.T) {
	t.Parallel()
	well, ill := observed(nil), observed(errors.New("no"))
	ill.Health = well.Health
	for _, path := range []string{"/readyz", "/readyz/serializable_read", "/livez", "/readyz?exclude=non_learner"} {
		ask(Handler(well), http.MethodGet, path)
	}
	ask(MetricsHandler(ill), http.MethodGet, "/readyz/serializable_read")
	got := map[string][2]uint64{}
	well.Health.EachCheck(func(kind, name string, passed, failed uint64, healthy bool) {
		got[kind+" "+name] = [2]uint64{passed, failed}
		if want := kind == "livez" || name != "serializable_read"; healthy != want {
			t.Errorf("%s %s: healthy %v", kind, name, healthy)
		}
	})
	want := map[string][2]uint64{"livez serializable_read": {1, 0}, "readyz serializable_read": {3, 1}, "readyz data_corruption": {2, 0},
		"readyz linearizable_read": {2, 0}, "readyz non_learner": {1, 0}}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestWhoLooksAfterAMemberIsServed(t *testing.T) {
	t.Parallel()
	o := observed(nil)
	profiles := o
	profiles.Profiles = true
	for _, c := range []struct {
		name, method, path string
		h                  http.Handler
		status             int
	}{
		{"metrics", http.MethodGet, "/metrics", Handler(o), 200},
		{"metrics, only the head", http.MethodHead, "/metrics", Handler(o), 200},
		{"metrics at their own address", http.MethodGet, "/metrics", MetricsHandler(o), 200},
		{"the version at the address of metrics", http.MethodGet, "/version", MetricsHandler(o), 404},
		{"variables", http.MethodGet, "/debug/vars", Handler(o), 200},
		{"variables, posted", http.MethodPost, "/debug/vars", Handler(o), 405},
		{"variables at the address of metrics", http.MethodGet, "/debug/vars", MetricsHandler(o), 404},
		{"profiles that are not enabled", http.MethodGet, "/debug/pprof/", Handler(o), 404},
		{"profiles", http.MethodGet, "/debug/pprof/", Handler(profiles), 200},
		{"one profile", http.MethodGet, "/debug/pprof/heap", Handler(profiles), 200},
		{"profiles at the address of metrics", http.MethodGet, "/debug/pprof/", MetricsHandler(profiles), 404},
	} {
		if got := ask(c.h, c.method, c.path).Code; got != c.status {
			t.Errorf("%s: %d, want %d", c.name, got, c.status)
		}
	}
}

func TestVariablesAreThoseOfTheProcessAndOurs(t *testing.T) {
	t.Parallel()
	var got map[string]json.RawMessage
	w := ask(Handler(observed(nil)), http.MethodGet, "/debug/vars")
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cmdline", "memstats"} {
		if got[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if string(got["file_descriptor_limit"]) != "7" {
		t.Errorf("the limit is %s", got["file_descriptor_limit"])
	}
}
