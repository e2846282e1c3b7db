package measure

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAnObservationCountsUpToEveryBoundAtOrAboveIt(t *testing.T) {
	t.Parallel()
	h := NewHistogram(Exponential(10, 3))
	for _, v := range []int64{-1, 10, 11, 20, 40, 41, 1000} {
		h.Observe(v)
	}
	h.ObserveMany(20, 3)
	r := h.Read()
	if want := []uint64{2, 7, 8}; !slices.Equal(r.Cumulative, want) || r.Count != 10 || r.Sum != 1181 {
		t.Errorf("got %+v, want %v of 10 with the sum 1181", r, want)
	}
}

func TestObservationsThatTookTogetherAreAllThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		took time.Duration
		n    int
		want []uint64
	}{
		"within the first bound": {10, 4, []uint64{4, 4, 4}},
		"one above it":           {11, 1, []uint64{0, 1, 1}},
		"several above it":       {39, 4, []uint64{3, 3, 4}},
		"above all":              {41, 3, []uint64{2, 2, 2}},
	} {
		h := NewHistogram(Exponential(10, 3))
		h.TookTogether(c.took, c.n)
		if r := h.Read(); !slices.Equal(r.Cumulative, c.want) || r.Count != uint64(c.n) || r.Sum != int64(c.took) {
			t.Errorf("%s: got %+v, want %v", name, r, c.want)
		}
	}
}

func TestConcurrentObservationsAreAllThere(t *testing.T) {
	t.Parallel()
	h, c := NewHistogram(Durations(time.Millisecond, 14)), new(Counter)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				h.Took(time.Second)
				c.Inc()
			}
		})
	}
	wg.Wait()
	if r := h.Read(); r.Count != 8000 || r.Sum != 8000*int64(time.Second) || c.Value() != 8000 {
		t.Errorf("got %d observations, the sum %d, the counter %d", r.Count, r.Sum, c.Value())
	}
}

func TestOutcomesAreToldApart(t *testing.T) {
	t.Parallel()
	o := NewOutcomes(Exponential(1, 2))
	o.Of(nil).Observe(1)
	o.Of(errors.New("no")).Observe(2)
	o.Of(nil).Observe(3)
	if a, b := o.Succeeded.Read(), o.Failed.Read(); a.Count != 2 || b.Count != 1 {
		t.Errorf("got %d and %d", a.Count, b.Count)
	}
}

func TestTopKeepsEveryNameThatCostsMoreThanItsShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const places = 8
		top, exact, all := NewTop(places), map[string]uint64{}, uint64(0)
		for range rapid.IntRange(0, 400).Draw(t, "adds") {
			name := fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "a") * rapid.IntRange(0, 8).Draw(t, "b"))
			bytes := rapid.Uint64Range(1, 100).Draw(t, "bytes")
			top.Add([]byte(name), 1, bytes)
			exact[name] += bytes
			all += bytes
		}
		most := top.Most(places + 1)
		if len(most) > places {
			t.Fatalf("%d names in %d places", len(most), places)
		}
		told := map[string]Cost{}
		for i, c := range most {
			told[c.Name] = c
			if i > 0 && c.Bytes > most[i-1].Bytes {
				t.Fatalf("not in order: %+v", most)
			}
			if c.Bytes < exact[c.Name] || c.Bytes-c.Over > exact[c.Name] {
				t.Fatalf("%+v, but it cost %d", c, exact[c.Name])
			}
		}
		for name, bytes := range exact {
			if _, ok := told[name]; !ok && bytes > all/places {
				t.Fatalf("%s with %d of %d bytes is missing", name, bytes, all)
			}
		}
	})
}

func BenchmarkObserve(b *testing.B) {
	h := NewHistogram(Durations(time.Millisecond, 14))
	for b.Loop() {
		h.Took(3 * time.Millisecond)
	}
}
