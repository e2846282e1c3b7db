package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// turnWith is a turn that has one metric.
func turnWith(m Metric, v float64) Turn {
	return Turn{Operations: 1, Metrics: map[Metric]float64{m: v}}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	thousand := make([]time.Duration, 1000)
	for i := range thousand {
		thousand[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		name   string
		values []time.Duration
		p      float64
		want   time.Duration
	}{
		{"no values have no percentile", nil, 0.99, 0},
		{"one value is every percentile", []time.Duration{7}, 0.001, 7},
		{"half of a thousand are not above the median", thousand, 0.5, 500},
		{"ten of a thousand are above the 99th", thousand, 0.99, 990},
		{"one of a thousand is above the 99.9th", thousand, 0.999, 999},
		{"the whole is the largest", thousand, 1, 1000},
		{"nothing is the smallest", thousand, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := percentile(c.values, c.p); got != c.want {
				t.Errorf("percentile %g is %d, not %d", c.p, got, c.want)
			}
		})
	}
}

func TestMedianIsBetweenTheMiddleTwo(t *testing.T) {
	t.Parallel()
	values := []float64{4, 1, 3, 2}
	if got := median(values); got != 2.5 {
		t.Errorf("the median is %g, not 2.5", got)
	}
	if got := median(values[:3]); got != 3 {
		t.Errorf("the median of three is %g, not 3", got)
	}
	if values[0] != 4 {
		t.Error("the values were sorted in place")
	}
}

func TestSpreadPairsTheTurnsOfARound(t *testing.T) {
	t.Parallel()
	ours := []Turn{turnWith(CPU, 1), turnWith(CPU, 2), turnWith(CPU, 9)}
	theirs := []Turn{turnWith(CPU, 2), turnWith(CPU, 8), turnWith(CPU, 3)}
	got, ok := spreadOf(ours, theirs, CPU)
	if want := (Spread{Median: 0.5, Min: 0.25, Max: 3, Rounds: 3}); !ok || got != want {
		t.Errorf("the spread is %+v, %t, not %+v", got, ok, want)
	}
	if _, ok := spreadOf(ours, theirs, Peak); ok {
		t.Error("a metric that nobody measured has a spread")
	}
	if got, ok := spreadOf(ours, []Turn{turnWith(CPU, 0), turnWith(CPU, 4)}, CPU); !ok || got.Rounds != 1 || got.Median != 0.5 {
		t.Errorf("a round in which a server measured nothing counts: %+v, %t", got, ok)
	}
}

func TestWhatIsWrittenIsThatOfAllRoundsTogether(t *testing.T) {
	t.Parallel()
	written := func(operations int, each float64) Turn {
		return Turn{Operations: operations, Metrics: map[Metric]float64{Written: each}}
	}
	ours := []Turn{written(100, 0), written(100, 10), written(200, 500)}
	theirs := []Turn{written(100, 200), written(100, 200), written(100, 200)}
	got, ok := spreadOf(ours, theirs, Written)
	if want := (Spread{Median: 252.5 / 200, Min: 0.05, Max: 2.5, Rounds: 2}); !ok || got != want {
		t.Errorf("the spread is %+v, %t, not %+v", got, ok, want)
	}
	if got, ok := middleOf(ours, Written); !ok || got != 252.5 {
		t.Errorf("%g bytes an operation, not 252.5", got)
	}
	if got, ok := middleOf([]Turn{written(1, 1), turnWith(CPU, 1), written(3, 5)}, Written); !ok || got != 4 {
		t.Errorf("%g bytes an operation where one turn knows none, not 4", got)
	}
	if _, ok := middleOf(nil, Written); ok {
		t.Error("no turn has a figure")
	}
}

func TestAServerIsQuietOnceItNeitherWorksNorWrites(t *testing.T) {
	t.Parallel()
	const cpu, written = time.Second, 1 << 30
	for _, c := range []struct {
		name    string
		now     usage
		members int
		want    bool
	}{
		{"nothing was done", usage{cpu: cpu, written: written}, 1, true},
		{"a twentieth of a core", usage{cpu: cpu + 5*time.Millisecond, written: written}, 1, true},
		{"a fifth of a core", usage{cpu: cpu + 20*time.Millisecond, written: written}, 1, false},
		{"a fifth of a core by three members", usage{cpu: cpu + 20*time.Millisecond, written: written}, 3, true},
		{"a page", usage{cpu: cpu, written: written + 4<<10}, 1, true},
		{"a table, by a server that waits for the disk", usage{cpu: cpu, written: written + 4<<20}, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.now.quietSince(usage{cpu: cpu, written: written}, 100*time.Millisecond, c.members); got != c.want {
				t.Errorf("quiet: %t", got)
			}
		})
	}
}

func TestHowLongAServerIsQuietDependsOnTheTimeGiven(t *testing.T) {
	t.Parallel()
	for most, want := range map[time.Duration]int{0: 1, quickSizes.Settle: 1, time.Second: 5, fullSizes.Settle: 5} {
		if got := quietStepsIn(most); got != want {
			t.Errorf("%d steps of %v, not %d", got, most, want)
		}
	}
}

func TestATallyBecomesMetrics(t *testing.T) {
	t.Parallel()
	var a, b tally
	for i := range 100 {
		a.note(time.Duration(100-i)*time.Millisecond, nil)
	}
	b.elapsed = 2 * time.Second
	b.add(a)
	got := b.turn()
	for m, want := range map[Metric]float64{Rate: 50, P50: 0.05, P99: 0.099, P999: 0.1} {
		if got.Metrics[m] != want {
			t.Errorf("%s is %g, not %g", m, got.Metrics[m], want)
		}
	}
	if got.failed() || got.Operations != 100 {
		t.Errorf("%+v", got)
	}
}

func TestATallyWithoutOperationsHasFailed(t *testing.T) {
	t.Parallel()
	for name, note := range map[string]func(*tally){
		"nothing was done":    func(*tally) {},
		"everything failed":   func(t *tally) { t.note(time.Second, errors.New("broken")) },
		"one of many failed":  func(t *tally) { t.note(1, nil); t.note(1, errors.New("broken")); t.note(1, nil) },
		"an unknown key came": func(t *tally) { t.note(1, fmt.Errorf("no key: %w", errNotYet)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var c tally
			note(&c)
			if got := c.turn(); !got.failed() || got.Error == "" || got.Absent {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAnUnknownRequestIsAbsent(t *testing.T) {
	t.Parallel()
	turn := failedTurn(fmt.Errorf("streaming: %w", status.Error(codes.Unimplemented, "unknown method RangeStream")))
	s := served("etcd34", []Turn{turn})
	if !s.Absent || s.Failed != "" || s.measured() {
		t.Errorf("%+v", s)
	}
}

func TestClosedLoopDoesEachOperationOnce(t *testing.T) {
	t.Parallel()
	const clients, n = 8, 1000
	done := make([]int, n)
	got := closedLoop(t.Context(), clients, n, time.Hour, operationFunc(func(client, i int) error {
		done[i]++ // each belongs to one client
		return nil
	}))
	if got.operations != n || got.errors != 0 || len(got.latencies) != n {
		t.Errorf("%d operations, %d errors, %d latencies", got.operations, got.errors, len(got.latencies))
	}
	for i, times := range done {
		if times != 1 {
			t.Fatalf("operation %d was done %d times", i, times)
		}
	}
}

func TestClosedLoopGivesUp(t *testing.T) {
	t.Parallel()
	got := closedLoop(t.Context(), 2, 1000, time.Hour, operationFunc(func(int, int) error { return errNotYet }))
	if got.operations != 0 || got.errors != 2*clientErrorsMax || !errors.Is(got.first, errNotYet) {
		t.Errorf("%+v", got)
	}
}

func TestAnOperationEndsWithItsPatience(t *testing.T) {
	t.Parallel()
	err := within(t.Context(), time.Nanosecond, func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "no answer within 1ns") {
		t.Errorf("the error is %v", err)
	}
}

func TestOpenLoopStartsOperationsWhileOthersAreUnderWay(t *testing.T) {
	t.Parallel()
	const n = 20
	stop, started, release := make(chan struct{}), make(chan int, 100000), make(chan struct{})
	go func() {
		for range n {
			<-started
		}
		close(release) // none has ended before
		close(stop)
	}()
	got := openLoop(t.Context(), 1000, stop, operationFunc(func(_, i int) error {
		started <- i
		<-release
		return nil
	}))
	if got.operations < n || got.errors != 0 {
		t.Errorf("%d operations, %d errors: %v", got.operations, got.errors, got.first)
	}
}
