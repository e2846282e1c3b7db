package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Turn is what one run of a scenario on one server has given.
type Turn struct {
	Operations int                `json:"operations"`
	Errors     int                `json:"errors,omitempty"`
	Error      string             `json:"error,omitempty"`  // the first one
	Absent     bool               `json:"absent,omitempty"` // the server does not know the request
	Metrics    map[Metric]float64 `json:"metrics"`
}

// failed says whether anything went wrong in it.
func (t *Turn) failed() bool { return t.Errors > 0 || t.Error != "" }

// failedTurn is a turn that could not be run to its end.
func failedTurn(err error) Turn {
	return Turn{Errors: 1, Error: err.Error(), Absent: isUnknown(err), Metrics: map[Metric]float64{}}
}

// isUnknown says whether an error is that of a server which does not know the request.
func isUnknown(err error) bool { return status.Code(err) == codes.Unimplemented }

// brief is a turn on one line, for whoever waits.
func (t *Turn) brief() string {
	switch {
	case t.Absent:
		return "does not know this request"
	case t.failed():
		return "FAILED: " + strings.Join(strings.Fields(t.Error), " ")
	}
	var parts []string
	for _, m := range []Metric{Rate, P50, P99, CPU, Took, Rest, Stretch} {
		if v, ok := t.Metrics[m]; ok {
			parts = append(parts, metricOf(m).title+" "+metricOf(m).format(v))
		}
	}
	return strings.Join(parts, ", ")
}

// tally is what clients count while they work. Its latencies are those of operations that succeeded.
type tally struct {
	operations int
	elapsed    time.Duration
	latencies  []time.Duration
	errors     int
	first      error
}

// add adds what another client has counted.
func (t *tally) add(o tally) {
	t.operations += o.operations
	t.latencies = append(t.latencies, o.latencies...)
	t.errors += o.errors
	if t.first == nil {
		t.first = o.first
	}
}

// note counts one operation.
func (t *tally) note(took time.Duration, err error) {
	if err != nil {
		t.errors++
		if t.first == nil {
			t.first = err
		}
		return
	}
	t.operations++
	t.latencies = append(t.latencies, took)
}

// times counts each operation as n of them.
func (t tally) times(n int) tally {
	t.operations *= n
	return t
}

// turn turns what was counted into metrics.
func (t *tally) turn() Turn {
	out := Turn{Operations: t.operations, Errors: t.errors, Metrics: map[Metric]float64{}}
	if t.first != nil {
		out.Error, out.Absent = t.first.Error(), isUnknown(t.first)
	}
	if t.operations == 0 {
		if !out.failed() {
			out.Errors, out.Error = 1, "no operation was carried out"
		}
		return out
	}
	if t.elapsed > 0 {
		out.Metrics[Rate] = float64(t.operations) / t.elapsed.Seconds()
	}
	if len(t.latencies) > 0 {
		slices.Sort(t.latencies)
		out.Metrics[P50] = percentile(t.latencies, 0.5).Seconds()
		out.Metrics[P99] = percentile(t.latencies, 0.99).Seconds()
		out.Metrics[P999] = percentile(t.latencies, 0.999).Seconds()
	}
	return out
}

// operation is the i-th one of all, done by one of the clients.
type operation func(ctx context.Context, client, i int) error

// operationPatience bounds one operation.
const operationPatience = time.Minute

// clientErrorsMax is after how many errors a client gives up: the line has failed by then.
const clientErrorsMax = 3

// closedLoop has clients do n operations in all, each client one after another, for at most the time given.
func closedLoop(ctx context.Context, clients, n int, most time.Duration, do operation) tally {
	return patientLoop(ctx, operationPatience, clients, n, most, do)
}

// patientLoop is closedLoop with another bound of one operation.
func patientLoop(ctx context.Context, patience time.Duration, clients, n int, most time.Duration, do operation) tally {
	var next atomic.Int64
	counts := make([]tally, clients)
	var running sync.WaitGroup
	begin := time.Now()
	for c := range clients {
		running.Go(func() {
			for counts[c].errors < clientErrorsMax && time.Since(begin) < most {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				at := time.Now()
				err := within(ctx, patience, func(ctx context.Context) error { return do(ctx, c, i) })
				counts[c].note(time.Since(at), err)
			}
		})
	}
	running.Wait()
	all := tally{elapsed: time.Since(begin)}
	for _, c := range counts {
		all.add(c)
	}
	return all
}

// bounded carries out one operation within its patience.
func bounded(ctx context.Context, do func(ctx context.Context) error) error {
	return within(ctx, operationPatience, do)
}

// within carries out an operation within a bound.
func within(ctx context.Context, patience time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer within %v", patience))
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, context.Cause(ctx))
	}
	return err
}

// underWayMax bounds how many operations of an open loop may be under way; one that finds no place has failed.
const underWayMax = 50_000

// openLoop starts operations at a rate, whether the ones before have ended or not, until stop is closed. A latency counts from
// the moment at which the operation was due, so that a server which stands still is seen by all that were due meanwhile.
func openLoop(ctx context.Context, rate int, stop <-chan struct{}, do operation) tally {
	var mu sync.Mutex
	var all tally
	var running sync.WaitGroup
	places := make(chan struct{}, underWayMax)
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		due := begin.Add(time.Duration(i) * time.Second / time.Duration(rate))
		timer.Reset(time.Until(due))
		select {
		case <-stop:
			running.Wait()
			all.elapsed = time.Since(begin)
			return all
		case <-timer.C:
		}
		select {
		case places <- struct{}{}:
		default:
			mu.Lock()
			all.note(0, fmt.Errorf("%d operations are under way", underWayMax))
			mu.Unlock()
			continue
		}
		running.Go(func() {
			err := bounded(ctx, func(ctx context.Context) error { return do(ctx, i, i) })
			mu.Lock()
			all.note(time.Since(due), err)
			mu.Unlock()
			<-places
		})
	}
}
