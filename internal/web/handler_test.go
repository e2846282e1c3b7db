package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func answer(t *testing.T, o Options, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	o.Versions = func() Versions { return Versions{"3.7.1", "3.7.0", "3.7.0"} }
	if o.Member.Read == nil {
		o.Member = well()
	}
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Handler(o).ServeHTTP(w, r)
	return w
}

func TestAnswersAreThoseOfEtcd(t *testing.T) {
	t.Parallel()
	const text = "text/plain; charset=utf-8"
	for _, c := range []struct {
		name, method, target string
		status               int
		kind, body           string
	}{
		{"the versions", "GET", "/version", 200, "application/json", `{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}`},
		{"version with a slash is no path", "GET", "/version/", 404, text, "404 page not found\n"},
		{"version is only read", "POST", "/version", 405, text, "Method Not Allowed\n"},
		{"OPTIONS is answered everywhere", "OPTIONS", "/nothing", 200, "", ""},
		{"an unknown path", "GET", "/nothing", 404, text, "404 page not found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := answer(t, Options{}, c.method, c.target)
			if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != c.kind {
				t.Errorf("got %d %q %q, want %d %q %q", w.Code, w.Header().Get("Content-Type"), w.Body, c.status, c.kind, c.body)
			}
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("Access-Control-Allow-Origin is %q", got)
			}
		})
	}
}

func TestOnlyListedOriginsAreAllowed(t *testing.T) {
	t.Parallel()
	o := Options{Origins: []string{"https://a.example"}}
	if got := answer(t, o, "GET", "/version", "Origin", "https://a.example").Header(); got.Get("Access-Control-Allow-Origin") != "https://a.example" ||
		got.Get("Access-Control-Allow-Methods") != "POST, GET, OPTIONS, PUT, DELETE" ||
		got.Get("Access-Control-Allow-Headers") != "accept, content-type, authorization" {
		t.Errorf("a listed origin got %v", got)
	}
	w := answer(t, o, "GET", "/version", "Origin", "https://b.example")
	if w.Header().Get("Access-Control-Allow-Origin") != "" || w.Code != http.StatusOK {
		t.Errorf("another origin got %d %v", w.Code, w.Header())
	}
}
