package ctl

import (
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// workload is a number of puts by several clients at once.
type workload struct {
	clients   int
	puts      int           // 0: as many as the time allows
	rate      int           // puts started a second; 0: as fast as they are answered
	time      time.Duration // 0: until all puts are done
	valueSize int
	// key returns the key of the n-th put, from any goroutine.
	key func(n int) string
}

// outcome is what a workload took.
type outcome struct {
	done, failed int
	slowest      time.Duration
	sum, squares float64 // of seconds
	took         time.Duration
	firstError   error
}

// deviation returns the standard deviation of a put's time, in seconds.
func (o *outcome) deviation() float64 {
	if o.done == 0 {
		return 0
	}
	mean := o.sum / float64(o.done)
	return math.Sqrt(max(0, o.squares/float64(o.done)-mean*mean))
}

// putsGrace is how long puts under way are waited for when the time is over.
const putsGrace = 5 * time.Second

// run does the puts; progress is called after each with how many are done, from one goroutine at a time.
func (w workload) run(ctx context.Context, c *clientv3.Client, progress func(done int)) outcome {
	start := time.Now()
	if w.time > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.time)
		defer cancel()
	}
	// Puts that are under way at the end are waited for: one that was given up may be done after the check's keys are removed.
	puts, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(putsGrace, giveUp) })()
	turns := w.turns(ctx)
	value := string(make([]byte, w.valueSize))
	var (
		mu  sync.Mutex
		o   outcome
		all sync.WaitGroup
	)
	for range w.clients {
		all.Go(func() {
			for n := range turns {
				began := time.Now()
				_, err := c.Put(puts, w.key(n), value)
				took := time.Since(began)
				mu.Lock()
				switch {
				case err == nil:
					o.done++
					o.slowest = max(o.slowest, took)
					o.sum += took.Seconds()
					o.squares += took.Seconds() * took.Seconds()
				case puts.Err() == nil:
					o.failed++
					if o.firstError == nil {
						o.firstError = err
					}
				}
				progress(o.done)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	o.took = time.Since(start)
	return o
}

// turns hands out the numbers of puts, at the workload's rate, until all are handed out or ctx ends.
func (w workload) turns(ctx context.Context) <-chan int {
	out := make(chan int)
	go func() {
		defer close(out)
		start := time.Now()
		for n := 0; w.puts == 0 || n < w.puts; n++ {
			if w.rate > 0 {
				due := time.Duration(float64(n) / float64(w.rate) * float64(time.Second))
				if wait := due - time.Since(start); wait > 0 {
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						return
					}
				}
			}
			select {
			case out <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// bar is a line that shows how far a check has come: its puts, as other long work does, on a terminal, and etcdctl's line elsewhere.
// It is drawn at most ten times a second.
type bar struct {
	w        io.Writer
	total    int
	drawn    time.Time
	terminal *progress.Line // nil: there is none
}

// startBar begins a bar on standard error, for so many puts on a terminal, and a total of etcdctl's line.
func (s *session) startBar(puts, total int) *bar {
	b := &bar{w: s.Stderr, total: total}
	if progress.IsTerminal(s.Stderr) {
		b.terminal = s.startProgress(keyCount, int64(puts))
	}
	return b
}

func (b *bar) show(puts, done int, now time.Time) {
	if b.terminal != nil {
		b.terminal.Reach(int64(puts))
		return
	}
	if done < b.total && now.Sub(b.drawn) < 100*time.Millisecond {
		return
	}
	b.drawn = now
	percent := 100 * float64(done) / float64(max(b.total, 1))
	fmt.Fprintf(b.w, "\r %d / %d %6.2f%%", done, b.total, percent)
}

// end leaves what was drawn behind in a pipe, and takes it away on a terminal.
func (b *bar) end(text string) {
	if b.terminal != nil {
		b.terminal.End()
		return
	}
	fmt.Fprint(b.w, text)
}
