package pacing

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
		gently     bool
		asked      func() uint64
		want       []time.Duration // of the rests in six calls
	}{
		"after each stint, less what it rested too long before": {200 * time.Microsecond, 2, false, func() uint64 { requests++; return requests },
			[]time.Duration{1200 * time.Microsecond, 1000 * time.Microsecond, 1000 * time.Microsecond}},
		"gently: sooner, and after long rests half as long": {100 * time.Microsecond, 2, true, func() uint64 { requests++; return requests },
			[]time.Duration{600 * time.Microsecond, 500 * time.Microsecond, 500 * time.Microsecond}},
		"less with many processors": {200 * time.Microsecond, 24, false, func() uint64 { requests++; return requests },
			[]time.Duration{100 * time.Microsecond}},
		"with a bound":                     {10 * time.Millisecond, 2, false, func() uint64 { requests++; return requests }, slices.Repeat([]time.Duration{RestMax}, 3)},
		"not while nobody asks":            {2 * QuietFor, 2, false, func() uint64 { return 7 }, nil},
		"not while the clock stands still": {0, 2, false, func() uint64 { return 7 }, nil},
	}
	for name, x := range cases {
		c := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: x.look}
		p := NewStints(c, nil, (&Demand{asked: x.asked, requests: 7, last: c.Manual.Now()}).Busy)
		p.processors, p.begun = x.processors, c.Manual.Now()
		if x.gently {
			p.Gently()
		}
		for range 6 {
			p.Pause()
		}
		if !slices.Equal(c.Rests, x.want) {
			t.Errorf("%s: it rests %s, want %s", name, c.Rests, x.want)
		}
	}
}

func TestARestThatLastsTooLongShortensTheNextOnes(t *testing.T) {
	t.Parallel()
	var r Rests
	for i, x := range []struct{ wanted, next, took time.Duration }{
		{2 * time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond},
		{2 * time.Millisecond, time.Millisecond, 4 * time.Millisecond},
		{2 * time.Millisecond, 0, 0}, // of the 3 ms too many 1 is left
		{2 * time.Millisecond, time.Millisecond, time.Hour},
		{2 * time.Millisecond, 0, 0},
		{2 * time.Millisecond, time.Millisecond, time.Millisecond},
		{2 * time.Millisecond, 2 * time.Millisecond, 2 * time.Millisecond},
	} {
		if got := r.Next(x.wanted); got != x.next {
			t.Fatalf("rest %d is %v, want %v", i, got, x.next)
		}
		if x.next > 0 {
			r.Took(x.next, x.took)
		}
	}
	r = Rests{half: true}
	for i, x := range []struct{ wanted, next, took time.Duration }{
		{2 * time.Millisecond, 2 * time.Millisecond, 2500 * time.Microsecond},
		{2 * time.Millisecond, 1500 * time.Microsecond, 4 * time.Millisecond},
		{2 * time.Millisecond, time.Millisecond, time.Hour}, // of the 2.5 ms too many
		{2 * time.Millisecond, time.Millisecond, time.Millisecond},
		{2 * time.Millisecond, 2 * time.Millisecond, 2 * time.Millisecond},
	} {
		if got := r.Next(x.wanted); got != x.next {
			t.Fatalf("rest %d, by half at most, is %v, want %v", i, got, x.next)
		}
		r.Took(x.next, x.took)
	}
}

func TestWaitingForAReaderIsNoWork(t *testing.T) {
	t.Parallel()
	const look = 100 * time.Microsecond
	var requests uint64
	c := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: look}
	asked := func() uint64 { requests++; return requests }
	p := NewStints(c, nil, (&Demand{asked: asked, last: c.Manual.Now()}).Busy)
	p.processors, p.begun = 2, c.Manual.Now()
	for range 6 {
		c.Advance(time.Second)
		p.Resume()
		p.Pause()
	}
	if want := []time.Duration{3 * StintMax, 3*StintMax - look}; !slices.Equal(c.Rests, want) {
		t.Errorf("it rests %s, want %s", c.Rests, want)
	}
}
