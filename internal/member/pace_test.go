package member

import (
	"slices"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

func TestWorkInTheBackgroundRestsBesideRequests(t *testing.T) {
	t.Parallel()
	var requests uint64
	cases := map[string]struct {
		look       time.Duration // how long work takes between two calls of pause
		processors int
		asked      func() uint64
		want       []time.Duration // of the rests in six calls
	}{
		"after each stint": {600 * time.Microsecond, 2, func() uint64 { requests++; return requests },
			slices.Repeat([]time.Duration{3600 * time.Microsecond}, 3)},
		"less with many processors": {600 * time.Microsecond, 24, func() uint64 { requests++; return requests },
			slices.Repeat([]time.Duration{300 * time.Microsecond}, 3)},
		"with a bound":                     {10 * time.Millisecond, 2, func() uint64 { requests++; return requests }, slices.Repeat([]time.Duration{pauseMax}, 6)},
		"not while nobody asks":            {2 * quietFor, 2, func() uint64 { return 7 }, nil},
		"not while the clock stands still": {0, 2, func() uint64 { return 7 }, nil},
	}
	for name, x := range cases {
		c := &movingClock{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), d: x.look}
		p := &stints{clock: c, demand: demand{asked: x.asked, requests: 7, last: c.Manual.Now()}, processors: x.processors, begun: c.Manual.Now()}
		for range 6 {
			p.pause()
		}
		if !slices.Equal(c.rests, x.want) {
			t.Errorf("%s: it rests %s, want %s", name, c.rests, x.want)
		}
	}
}
