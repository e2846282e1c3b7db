package web

import (
	"context"
	"errors"
	"testing"
)

// well is a member that nothing is wrong with.
func well() Member {
	return Member{
		Alarms:    func() []string { return nil },
		HasLeader: func() bool { return true },
		Read:      func(context.Context, bool) error { return nil },
		Learner:   func() bool { return false },
	}
}

func alarmed(names ...string) Member {
	m := well()
	m.Alarms = func() []string { return names }
	return m
}

// lonely has no leader, and so answers serializable reads alone.
func lonely() Member {
	m := well()
	m.HasLeader = func() bool { return false }
	m.Read = func(_ context.Context, serializable bool) error {
		if serializable {
			return nil
		}
		return errors.New("timed out")
	}
	return m
}

func TestHealthAnswersAreThoseOfEtcd(t *testing.T) {
	t.Parallel()
	const good, allGood = `{"health":"true","reason":""}`, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
	broken := lonely()
	broken.HasLeader = func() bool { return true }
	learner := well()
	learner.Learner = func() bool { return true }
	for _, c := range []struct {
		name           string
		member         Member
		method, target string
		status         int
		body           string
	}{
		{"a member that is well", well(), "GET", "/health", 200, good},
		{"health is only read", well(), "POST", "/health", 405, "Method Not Allowed\n"},
		{"parameters that mean nothing", well(), "GET", "/health?serializable=x&exclude=&nonsense=1", 200, good},
		{"an alarm", alarmed("NOSPACE"), "GET", "/health", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{"an alarm counts for serializable too", alarmed("NOSPACE"), "GET", "/health?serializable=true", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{"an alarm excluded", alarmed("NOSPACE"), "GET", "/health?exclude=NOSPACE", 200, good},
		{"another alarm excluded", alarmed("NOSPACE"), "GET", "/health?exclude=CORRUPT", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{"two alarms", alarmed("CORRUPT", "NOSPACE"), "GET", "/health", 503, `{"health":"false","reason":"ALARM CORRUPT"}` + "\n"},
		{"two alarms, one excluded", alarmed("CORRUPT", "NOSPACE"), "GET", "/health?exclude=CORRUPT", 503, `{"health":"false","reason":"ALARM NOSPACE"}` + "\n"},
		{"two alarms, both excluded", alarmed("CORRUPT", "NOSPACE"), "GET", "/health?exclude=CORRUPT&exclude=NOSPACE", 200, good},
		{"no leader", lonely(), "GET", "/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}` + "\n"},
		{"the member alone needs no leader", lonely(), "GET", "/health?serializable=true", 200, good},
		{"a read that fails", broken, "GET", "/health", 503, `{"health":"false","reason":"RANGE ERROR:timed out"}` + "\n"},

		{"live", well(), "GET", "/livez", 200, "ok\n"},
		{"live without a leader", lonely(), "GET", "/livez?verbose", 200, "[+]serializable_read ok\nok\n"},
		{"live with all checks excluded", well(), "GET", "/livez?exclude=serializable_read&verbose", 200, "ok\n"},
		{"one check of live", well(), "GET", "/livez/serializable_read", 200, "ok\n"},
		{"live has no linearizable read", well(), "GET", "/livez/linearizable_read", 404, "404 page not found\n"},
		{"live is only read", well(), "PUT", "/livez", 405, "Method Not Allowed\n"},

		{"ready", well(), "GET", "/readyz", 200, "ok\n"},
		{"ready in full, whatever verbose says", well(), "GET", "/readyz?verbose=false", 200, allGood},
		{"ready without space", alarmed("NOSPACE"), "GET", "/readyz?verbose", 200, allGood},
		{"not ready while data differ", alarmed("CORRUPT"), "GET", "/readyz", 503,
			"[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n\n"},
		{"ready while data differ, if that is excluded", alarmed("CORRUPT"), "GET", "/readyz?exclude=data_corruption", 200, "ok\n"},
		{"an unknown exclusion", alarmed("CORRUPT"), "GET", "/readyz/data_corruption?exclude=nonsense", 503,
			"[-]data_corruption failed: alarm activated: CORRUPT\n\n"},
		{"not ready without a leader", lonely(), "GET", "/readyz", 503,
			"[+]data_corruption ok\n[+]serializable_read ok\n[-]linearizable_read failed: timed out\n[+]non_learner ok\n\n"},
		{"a learner is not ready", learner, "GET", "/readyz/non_learner", 503, "[-]non_learner failed: not supported for learner\n\n"},
		{"one check is not excluded", well(), "GET", "/readyz/linearizable_read?exclude=linearizable_read&verbose", 200, "[+]linearizable_read ok\nok\n"},
		{"an unknown check", well(), "GET", "/readyz/nonsense", 404, "404 page not found\n"},
		{"ready with a slash", well(), "GET", "/readyz/", 404, "404 page not found\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := answer(t, Options{Member: c.member}, c.method, c.target)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
			if kind := w.Header().Get("Content-Type"); kind != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type is %q", kind)
			}
		})
	}
}
