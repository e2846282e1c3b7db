package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// Member is what the health of a member is told from. All functions are called from many goroutines; all are required.
type Member struct {
	// Alarms returns the names of the alarms that any member has raised, each once, the worst first.
	Alarms func() []string
	// HasLeader says whether a leader is known.
	HasLeader func() bool
	// Read reads a key: with serializable from the member alone, without from its cluster. The error's text is
	// told to whoever asks.
	Read func(ctx context.Context, serializable bool) error
	// Learner says whether the member is a learner.
	Learner func() bool
}

// healthAnswer has texts where a boolean would do, since etcd has.
type healthAnswer struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// health answers /health: alarms (but those excluded), then the leader, then a read.
func (o *Options) health(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	reason := o.Member.reason(r.Context(), query["exclude"], query.Get("serializable") == "true")
	o.count(reason)
	answer := healthAnswer{"true", reason}
	if reason != "" {
		answer.Health = "false"
	}
	b, _ := json.Marshal(answer) // two texts: it cannot fail
	if reason != "" {
		http.Error(w, string(b), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(b) // a client that has gone away needs no answer
}

// count counts an answer.
func (o *Options) count(reason string) {
	switch {
	case o.Health == nil:
	case reason == "":
		o.Health.Passed.Inc()
	default:
		o.Health.Failed.Inc()
	}
}

// reason returns why the member is not healthy, "" when it is.
func (m *Member) reason(ctx context.Context, exclude []string, serializable bool) string {
	for _, alarm := range m.Alarms() {
		if !slices.Contains(exclude, alarm) {
			return "ALARM " + alarm
		}
	}
	if !serializable && !m.HasLeader() {
		return "RAFT NO LEADER"
	}
	if err := m.Read(ctx, serializable); err != nil {
		return "RANGE ERROR:" + err.Error()
	}
	return ""
}

// check is one thing that can be wrong.
type check struct {
	name string
	run  func(ctx context.Context, m *Member) error
}

var (
	errCorrupt = errors.New("alarm activated: CORRUPT")
	errLearner = errors.New("not supported for learner")
)

var (
	checkSerializable = check{"serializable_read", func(ctx context.Context, m *Member) error { return m.Read(ctx, true) }}
	checkLinearizable = check{"linearizable_read", func(ctx context.Context, m *Member) error { return m.Read(ctx, false) }}
	checkCorruption   = check{"data_corruption", func(_ context.Context, m *Member) error {
		if slices.Contains(m.Alarms(), "CORRUPT") {
			return errCorrupt
		}
		return nil
	}}
	checkVoter = check{"non_learner", func(_ context.Context, m *Member) error {
		if m.Learner() {
			return errLearner
		}
		return nil
	}}
)

// livez says whether the process is of any use, readyz whether clients should be sent here.
var (
	livez  = []check{checkSerializable}
	readyz = []check{checkCorruption, checkSerializable, checkLinearizable, checkVoter}
)

// handleChecks serves the checks together at path, where some can be excluded, and each at a path below.
func (o *Options) handleChecks(mux *http.ServeMux, path string, checks []check) {
	mux.HandleFunc(path, onlyGet(func(w http.ResponseWriter, r *http.Request) {
		exclude := r.URL.Query()["exclude"]
		run := slices.DeleteFunc(slices.Clone(checks), func(c check) bool { return slices.Contains(exclude, c.name) })
		o.answer(w, r, path, run)
	}))
	for _, c := range checks {
		mux.HandleFunc(path+"/"+c.name, onlyGet(func(w http.ResponseWriter, r *http.Request) {
			o.answer(w, r, path, []check{c})
		}))
	}
}

// answer runs the checks and writes a line for each; when all is well only if they are asked for.
func (o *Options) answer(w http.ResponseWriter, r *http.Request, path string, checks []check) {
	var lines strings.Builder
	ok := true
	for _, c := range checks {
		err := c.run(r.Context(), &o.Member)
		if o.Health != nil {
			o.Health.checked(path, c.name, err)
		}
		if err != nil {
			ok = false
			lines.WriteString("[-]" + c.name + " failed: " + err.Error() + "\n")
		} else {
			lines.WriteString("[+]" + c.name + " ok\n")
		}
	}
	if !ok {
		http.Error(w, lines.String(), http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	if !r.URL.Query().Has("verbose") {
		lines.Reset()
	}
	_, _ = w.Write([]byte(lines.String() + "ok\n")) // a client that has gone away needs no answer
}
