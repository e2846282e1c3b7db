package lease

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDeadlinesAgreeWithAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var d Deadlines
		model := map[int64]time.Duration{}
		ids, times := rapid.Int64Range(-20, 20), rapid.Int64Range(0, 30)
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				id, at := ids.Draw(t, "id"), time.Duration(times.Draw(t, "at"))
				d.Set(id, at)
				model[id] = at
			},
			"remove": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				_, there := model[id]
				if d.Remove(id) != there {
					t.Fatalf("removed %d: want %v", id, there)
				}
				delete(model, id)
			},
			"remove the first": func(t *rapid.T) {
				if id, _, ok := d.First(); ok {
					d.Remove(id)
					delete(model, id)
				}
			},
			"": func(t *rapid.T) { compareDeadlines(t, &d, model) },
		})
	})
}

func compareDeadlines(t *rapid.T, d *Deadlines, model map[int64]time.Duration) {
	if d.Len() != len(model) {
		t.Fatalf("%d leases, want %d", d.Len(), len(model))
	}
	first := time.Duration(-1)
	for id, at := range model {
		if got, ok := d.Get(id); !ok || got != at {
			t.Fatalf("lease %d at %d, %v; want %d", id, got, ok, at)
		}
		if first < 0 || at < first {
			first = at
		}
	}
	if id, at, ok := d.First(); ok != (len(model) > 0) || ok && (at != first || model[id] != at) {
		t.Fatalf("the first is %d at %d, %v; want %d", id, at, ok, first)
	}
	n := 0
	for id, at := range d.All {
		if n++; model[id] != at {
			t.Fatalf("lease %d at %d, want %d", id, at, model[id])
		}
	}
	if n != len(model) {
		t.Fatalf("All gave %d, want %d", n, len(model))
	}
}

func TestDeadlinesComeInOrder(t *testing.T) {
	t.Parallel()
	var d Deadlines
	var want []time.Duration
	for i := range 10_000 {
		at := time.Duration(rand.Int64N(1000))
		d.Set(int64(i), at)
		want = append(want, at)
	}
	slices.Sort(want)
	for i := range want {
		id, at, ok := d.First()
		if !ok || at != want[i] {
			t.Fatalf("number %d is at %d, want %d", i, at, want[i])
		}
		d.Remove(id)
	}
	if _, _, ok := d.First(); ok || d.Len() != 0 {
		t.Errorf("%d are left", d.Len())
	}
}

// BenchmarkDeadlines works among one million leases.
func BenchmarkDeadlines(b *testing.B) {
	const leases = 1_000_000
	full := func() *Deadlines {
		d := &Deadlines{}
		for i := range int64(leases) {
			d.Set(i*7919, time.Duration(rand.Int64N(int64(time.Hour))))
		}
		return d
	}
	b.Run("grant", func(b *testing.B) {
		d := full()
		for i := range int64(b.N) {
			d.Set(-i-1, time.Duration(rand.Int64N(int64(time.Hour))))
		}
	})
	b.Run("renew", func(b *testing.B) {
		d := full()
		now := time.Duration(0)
		for b.Loop() {
			now += time.Millisecond
			d.Set(rand.Int64N(leases)*7919, now+time.Hour)
		}
	})
	b.Run("expire", func(b *testing.B) {
		d := full()
		for b.Loop() {
			id, _, ok := d.First()
			if !ok {
				b.StopTimer()
				d = full()
				b.StartTimer()
				continue
			}
			d.Remove(id)
		}
	})
}
