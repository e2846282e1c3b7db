package member

import (
	"testing"
	"time"
)

func TestALeaderIsMissedOnceWhenItsConnectionsStayBroken(t *testing.T) {
	t.Parallel()
	const after = 200 * time.Millisecond
	type look struct {
		at     time.Duration // in milliseconds
		leader uint64
		down   bool
		want   bool
	}
	for name, looks := range map[string][]look{
		"it ends":                                {{0, 7, false, false}, {100, 7, true, false}, {200, 7, true, false}, {300, 7, true, true}, {400, 7, true, false}, {900, 7, true, false}},
		"its connections break for a moment":     {{0, 7, false, false}, {100, 7, true, false}, {200, 7, false, false}, {300, 7, true, false}, {400, 7, true, false}, {500, 7, true, true}},
		"it was never connected":                 {{0, 7, true, false}, {300, 7, true, false}, {600, 7, true, false}},
		"another one leads, not connected yet":   {{0, 7, false, false}, {100, 7, true, false}, {200, 8, true, false}, {600, 8, true, false}, {700, 8, false, false}, {800, 8, true, false}, {1000, 8, true, true}},
		"nobody leads":                           {{0, 7, false, false}, {100, 0, false, false}, {500, 0, false, false}, {600, 7, true, false}, {900, 7, true, false}},
		"it ends a second time in the same term": {{0, 7, false, false}, {100, 7, true, false}, {300, 7, true, true}, {400, 7, false, false}, {500, 7, true, false}, {700, 7, true, true}},
	} {
		w := leaderWatch{after: after}
		for i, x := range looks {
			if got := w.missed(x.leader, x.down, time.Unix(0, int64(x.at*time.Millisecond))); got != x.want {
				t.Errorf("%s: look %d, at %d ms: missed %v", name, i, x.at, got)
			}
		}
	}
}
