package rpc

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

const (
	// paceMessages is how many messages a second all watch streams together write for each processor before they
	// pause: at about a microsecond each, less than a tenth of it.
	paceMessages = 75_000
	// paceBytes of events cost as much as a message: 32 MiB a second for each processor.
	paceBytes = 448
	// paceBurst is how many more they may write after a time with fewer.
	paceBurst = 20_000
	// pacePause is the longest pause of a stream.
	pacePause = 15 * time.Millisecond
	// paceSlack is the shortest, so that it is worth a timer.
	paceSlack = time.Millisecond
	// paceRound is the most messages of a stream between two looks at the clock.
	paceRound = 4096
	// readRate is how many bytes of history a second are read for watchers that catch up, for each processor: of events of
	// 300 bytes 330,000 a second on two of them at most, which takes two thirds of one.
	readRate = 48 << 20
	// readBurst is how many bytes more are read after a time with fewer: some steps, so that sleeping too long is made up for.
	readBurst = 1 << 20
	// readUnit is the bytes that a pace of reading counts as one.
	readUnit = 512
)

// pace leaves the processors to writers when their writes have very many watchers, or when a watcher catches up. A message
// to a watcher costs about the same, however many small events are in it: so a stream that writes to the same watchers again
// and again pauses between two rounds, and finds more events for each of them when it goes on. One that catches up pauses
// between two steps of reading, at a pace of its own. Within a round a pause would save nothing, and below the rate nobody pauses. Beyond it events are late
// by pacePause at most.
type pace struct {
	clock    clock.Clock
	interval int64 // nanoseconds between two messages at the rate
	burst    int64 // messages after a time with fewer
	// ahead is the time, in nanoseconds since 1970, for which the messages written so far last at the rate. It is
	// between a burst before and a pause after the present.
	ahead atomic.Int64
}

func newPace(c clock.Clock) *pace {
	return &pace{clock: c, interval: int64(time.Second) / int64(paceMessages*runtime.GOMAXPROCS(0)), burst: paceBurst}
}

// newReadPace returns the pace at which history is read, in units of readUnit bytes.
func newReadPace(c clock.Clock) *pace {
	rate := readRate / readUnit * runtime.GOMAXPROCS(0)
	return &pace{clock: c, interval: int64(time.Second) / int64(rate), burst: readBurst / readUnit}
}

// rest pauses a stream that has read bytes of history.
func (p *pace) rest(ctx context.Context, bytes int) {
	p.sleep(ctx, p.spend(1+bytes/readUnit))
}

// sleep waits for d, if that is worth a timer, or until the context ends.
func (p *pace) sleep(ctx context.Context, d time.Duration) {
	if d < paceSlack {
		return
	}
	timer := p.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-ctx.Done():
	}
}

// spend counts n messages and returns for how long their stream should pause.
func (p *pace) spend(n int) time.Duration {
	now := p.clock.Now().UnixNano()
	for {
		old := p.ahead.Load()
		ahead := min(max(old, now-p.burst*p.interval)+int64(n)*p.interval, now+int64(pacePause))
		if p.ahead.CompareAndSwap(old, ahead) {
			return time.Duration(ahead - now)
		}
	}
}

// round tells when a stream begins to write to the same watchers again.
type round struct {
	first int64 // the watcher it began with
	n     int   // messages so far
	cost  int   // of them, in messages of few events
}

// ends tells whether a round ended with m, which the stream has written: then the stream pauses.
func (r *round) ends(m *watch.Message) bool {
	if len(m.Events) == 0 {
		return false
	}
	if r.n == 0 {
		r.first = m.WatchID
	}
	r.n++
	if r.cost++; !m.History { // its reading has waited already
		r.cost += m.Size / paceBytes
	}
	return r.n > 1 && (r.first == m.WatchID || r.n >= paceRound)
}

// pause pauses the stream after a round, and begins the next.
func (r *round) pause(ctx context.Context, p *pace) {
	d := p.spend(r.cost)
	r.n, r.cost = 0, 0
	p.sleep(ctx, d)
}
