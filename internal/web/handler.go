package web

import (
	"encoding/json"
	"net/http"
	"slices"
)

// Versions is the answer of /version.
type Versions struct {
	Server  string `json:"etcdserver"`
	Cluster string `json:"etcdcluster"`
	Storage string `json:"storage"`
}

// Options describes a handler.
type Options struct {
	// Versions is asked for every /version. Required.
	Versions func() Versions
	// Member is asked for the member's health. Required.
	Member Member
	// Origins are the origins that pages may ask from, "*" or none for all.
	Origins []string
	// Hosts are the host names that requests without TLS may be addressed to, "*" or none for all.
	Hosts []string
	// Metrics answers /metrics; nil leaves it out.
	Metrics http.Handler
	// Health counts the answers of /health; nil is for nobody.
	Health *Health
	// Vars returns what /debug/vars tells beside the variables of the process; nil is nothing.
	Vars func() map[string]any
	// Profiles serves /debug/pprof/.
	Profiles bool
	// Gateway answers the paths of the JSON API; nil leaves them out.
	Gateway http.Handler
	// Beside is given all of these pages and returns what answers in their place, as if it were one of them; nil for themselves.
	Beside func(pages http.Handler) http.Handler
}

// Handler returns the HTTP handler of the client addresses.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", onlyGet(o.version))
	o.handleObservation(mux)
	o.handleDebug(mux)
	if o.Gateway != nil {
		mux.Handle(gatewayPath, o.Gateway)
		mux.Handle(gatewayOldPath, o.Gateway)
	}
	var all http.Handler = mux
	if o.Beside != nil {
		all = o.Beside(mux)
	}
	return hosts(o.Hosts).only(origins(o.Origins).allow(all))
}

func (o *Options) version(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, o.Versions())
}

// writeJSON writes v, which can be encoded. A client that has gone away needs no answer.
func writeJSON(w http.ResponseWriter, v any) {
	if b, err := json.Marshal(v); err == nil {
		_, _ = w.Write(b)
	}
}

func onlyGet(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		h(w, r)
	}
}

// origins are the origins allowed.
type origins []string

// allow sends the CORS headers before the answer of h, and answers OPTIONS itself.
func (o origins) allow(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if origin := o.match(r.Header.Get("Origin")); origin != "" {
			w.Header().Set("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE")
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Headers", "accept, content-type, authorization")
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusOK)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// match returns the origin to announce to one, "" for none.
func (o origins) match(origin string) string {
	switch {
	case len(o) == 0 || slices.Contains(o, "*"):
		return "*"
	case slices.Contains(o, origin):
		return origin
	default:
		return ""
	}
}
