package measure

import (
	"context"
	"slices"
	"testing"
	"time"
)

func TestTheTimeOfARequestIsSharedOutAmongItsPhases(t *testing.T) {
	t.Parallel()
	start := time.Unix(100, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	p := StartPhases(start, Receiving)
	p.At(Checking, at(2))
	p.At(ReadingKeys, at(5))
	p.At(Memory, at(6))
	p.At(ReadingKeys, at(16))
	p.At(Answering, at(20))
	p.At(Answering, at(19)) // a clock that was taken earlier changes nothing
	var got []string
	sum := time.Duration(0)
	p.Each(func(name string, begin time.Time, took time.Duration) {
		got = append(got, name+" "+begin.Sub(start).String()+" "+took.String())
		sum += took
	})
	want := []string{"receive 0s 2ms", "check 2ms 3ms", "read 5ms 5ms", "memory 6ms 10ms"}
	if !slices.Equal(got, want) || sum != 20*time.Millisecond {
		t.Errorf("got %q, in all %v; want %q", got, sum, want)
	}
}

func TestPhasesThatNobodyWantsCostNothing(t *testing.T) {
	t.Parallel()
	var none *Phases
	none.Enter(ReadingKeys)
	none.Each(func(string, time.Time, time.Duration) { t.Error("no phases have a phase") })
	if p := PhasesOf(context.Background()); p != nil {
		t.Errorf("a context without phases has %v", p)
	}
	p := StartPhases(time.Now(), Checking)
	type other struct{}
	ctx := p.With(context.WithValue(context.Background(), other{}, 1))
	if PhasesOf(context.WithValue(ctx, other{}, 2)) != p || ctx.Value(other{}) != 1 {
		t.Error("a context with phases lost them, or what was in it")
	}
}

func TestEveryPhaseHasAName(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for p := range phases {
		if name := p.String(); name == "" || seen[name] {
			t.Errorf("phase %d is called %q", p, name)
		}
		seen[p.String()] = true
	}
}
