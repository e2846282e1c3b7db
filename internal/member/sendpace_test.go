package member

import (
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

func TestARestFollowsFromTheWork(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		slice      time.Duration
		processors int
		want       time.Duration
	}{
		"one of two processors works a part of both": {200 * time.Microsecond, 2, 3 * time.Millisecond},
		"a sole one":                         {100 * time.Microsecond, 1, 3100 * time.Microsecond},
		"one of eight works a quarter of it": {500 * time.Microsecond, 8, 1500 * time.Microsecond},
		"a slow slice":                       {time.Second, 2, sendRestMax},
		"there are many":                     {time.Second, sendShare, 0},
		"there are more":                     {time.Second, 2 * sendShare, 0},
		"the clock stands still":             {0, 2, 0},
		"the clock was set back meanwhile":   {-time.Second, 4, -7 * time.Second},
	}
	for name, c := range cases {
		if got := sendRest(c.slice, c.processors); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// movingClock moves by d with each look at it, so that everything takes time.
type movingClock struct {
	*clock.Manual
	d     time.Duration
	rests []time.Duration
}

func (c *movingClock) Now() time.Time {
	c.Advance(c.d)
	return c.Manual.Now()
}

// NewTimer returns one that fires at once.
func (c *movingClock) NewTimer(d time.Duration) clock.Timer {
	c.rests = append(c.rests, d)
	timer := c.Manual.NewTimer(d)
	c.Advance(d)
	return timer
}

func TestAStateOnItsWayRestsAfterEachSlice(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewCrashableMem(), alone))
	defer stop(t, m)
	step(m)
	value := make([]byte, 2000)
	const puts = 400
	for range puts {
		putStepped(t, m, "k", string(value))
	}
	r, err := snapshot.NewReader(m.gen.Load().db)
	if err != nil {
		t.Fatal(err)
	}
	c := &movingClock{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), d: time.Nanosecond}
	s := m.paced(r)
	s.clock, s.processors = c, 2
	n, err := io.Copy(io.Discard, s)
	if err != nil || n < puts*2000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := len(c.rests), int(n/(sendSlice+4096)); got < want {
		t.Errorf("%d rests for %d bytes, want %d at least", got, n, want)
	}
	for _, d := range c.rests {
		if d <= 0 || d > sendRestMax {
			t.Errorf("a rest of %s", d)
		}
	}
}

func TestAStoppingMemberDoesNotRest(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	close(stopped)
	s := &pacedState{clock: clock.NewManual(time.Unix(1_700_000_000, 0)), stop: stopped}
	s.rest(time.Hour) // returns, although the clock stands still
}
