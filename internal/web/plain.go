package web

import (
	"encoding/json"
	"expvar"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// Paths that only those see who look after a member.
const (
	metricsPath = "/metrics"
	varsPath    = "/debug/vars"
	pprofPath   = "/debug/pprof/"
)

// Health counts what was answered at /health, and the checks of /livez and /readyz. Its zero value is ready.
type Health struct {
	Passed, Failed measure.Counter

	live, ready [4]checkCount // by the place of the check in its list
}

// checkCount counts one check.
type checkCount struct {
	passed, failed measure.Counter
	healthy        atomic.Bool // as it was last found
}

// EachCheck calls f for each check that was made: kind is livez or readyz, healthy what came of it last.
func (h *Health) EachCheck(f func(kind, name string, passed, failed uint64, healthy bool)) {
	for i, c := range livez {
		h.live[i].tell("livez", c.name, f)
	}
	for i, c := range readyz {
		h.ready[i].tell("readyz", c.name, f)
	}
}

func (c *checkCount) tell(kind, name string, f func(kind, name string, passed, failed uint64, healthy bool)) {
	if passed, failed := c.passed.Value(), c.failed.Value(); passed+failed > 0 {
		f(kind, name, passed, failed, c.healthy.Load())
	}
}

// checked counts a check of /livez or /readyz.
func (h *Health) checked(path, name string, err error) {
	list, counts := livez, &h.live
	if path == "/readyz" {
		list, counts = readyz, &h.ready
	}
	c := &counts[slices.IndexFunc(list, func(c check) bool { return c.name == name })]
	c.healthy.Store(err == nil)
	if err == nil {
		c.passed.Inc()
	} else {
		c.failed.Inc()
	}
}

// MetricsHandler returns the HTTP handler of addresses that are for metrics and health alone. Pages of other origins are told nothing
// of it, and no host is refused, as in etcd.
func MetricsHandler(o Options) http.Handler {
	mux := http.NewServeMux()
	o.handleObservation(mux)
	return mux
}

// handleObservation serves metrics and health.
func (o *Options) handleObservation(mux *http.ServeMux) {
	if o.Metrics != nil {
		mux.Handle(metricsPath, o.Metrics)
	}
	mux.HandleFunc("/health", onlyGet(o.health))
	o.handleChecks(mux, "/livez", livez)
	o.handleChecks(mux, "/readyz", readyz)
}

// handleDebug serves variables and, if they are wanted, profiles.
func (o *Options) handleDebug(mux *http.ServeMux) {
	mux.HandleFunc(varsPath, onlyGet(o.vars))
	if !o.Profiles {
		return
	}
	// A profile of 30 seconds also says how long goroutines wait for each other.
	runtime.SetMutexProfileFraction(mutexProfileFraction)
	mux.HandleFunc(pprofPath, pprof.Index)
	mux.HandleFunc(pprofPath+"cmdline", pprof.Cmdline)
	mux.HandleFunc(pprofPath+"profile", pprof.Profile)
	mux.HandleFunc(pprofPath+"symbol", pprof.Symbol)
	mux.HandleFunc(pprofPath+"trace", pprof.Trace)
}

// mutexProfileFraction samples one in so many waits for a lock, as etcd does.
const mutexProfileFraction = 5

// vars answers /debug/vars: what the process publishes by expvar, and Options.Vars.
func (o *Options) vars(w http.ResponseWriter, _ *http.Request) {
	all := make(map[string]json.RawMessage)
	expvar.Do(func(kv expvar.KeyValue) { all[kv.Key] = json.RawMessage(kv.Value.String()) })
	if o.Vars != nil {
		for name, v := range o.Vars() {
			if b, err := json.Marshal(v); err == nil {
				all[name] = b
			}
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	writeJSON(w, all)
}
