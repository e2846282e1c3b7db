package measure

import (
	"context"
	"time"
)

// Phase is one of the things that the time of a request goes into.
type Phase int

// The phases of a request, about in the order in which it passes through them.
const (
	// Receiving is the time in which its message came in and was decoded. Of requests other than those for keys it is not known.
	Receiving Phase = iota
	// Checking is what looks whether the request is sound and allowed.
	Checking
	// Password is the making or checking of the hash of a password, with the wait for its turn.
	Password
	// Replicating is from the proposal to its commit: the way to the leader, its disk and a majority's.
	Replicating
	// Queueing is the wait of what is committed for what is applied before it.
	Queueing
	// Applying is from the beginning of its group of entries to its result.
	Applying
	// Confirming is the wait of a read for the leader's word that it still leads, and until this member has applied as much.
	Confirming
	// ReadingKeys is the reading of keys and the making of the response from them.
	ReadingKeys
	// Memory is the wait for other large responses to give memory back.
	Memory
	// Compacting is the wait until what was compacted is removed.
	Compacting
	// Answering is what is left after a result.
	Answering

	phases
)

// String returns the name that logs and traces have for it.
func (p Phase) String() string {
	return [phases]string{"receive", "check", "password", "raft", "apply-queue", "apply", "read-index", "read", "memory",
		"compaction", "answer"}[p]
}

// Phases say where the time of one request went. It is always in one phase; the time of those that it comes into more than
// once is added up. It belongs to the goroutine of the request. A nil one takes everything and keeps nothing.
type Phases struct {
	start, since time.Time
	now          Phase
	first, took  [phases]time.Duration // first since start; took is 0 for phases that were not
	in           withPhases            // what With returns: one piece of memory for both
}

// StartPhases returns those of a request that began at start and is in the given phase.
func StartPhases(start time.Time, in Phase) *Phases {
	return &Phases{start: start, since: start, now: in}
}

// Enter ends the present phase and begins another one.
func (p *Phases) Enter(next Phase) {
	if p != nil {
		p.At(next, time.Now())
	}
}

// At is Enter at a time that was taken before. A time before that of the last change counts as that one.
func (p *Phases) At(next Phase, t time.Time) {
	if p == nil {
		return
	}
	if d := t.Sub(p.since); d > 0 {
		if p.took[p.now] == 0 {
			p.first[p.now] = p.since.Sub(p.start)
		}
		p.took[p.now] += d
		p.since = t
	}
	p.now = next
}

// Each calls f for every phase that took time, with its first beginning and all its time. The present one counts up to the last
// change: end it by entering Answering.
func (p *Phases) Each(f func(name string, begin time.Time, took time.Duration)) {
	if p == nil {
		return
	}
	for i, took := range p.took {
		if took > 0 {
			f(Phase(i).String(), p.start.Add(p.first[i]), took)
		}
	}
}

type phasesKey struct{}

// withPhases is a context and its phases in one piece.
type withPhases struct {
	context.Context
	phases *Phases
}

// Value implements context.Context.
func (c *withPhases) Value(key any) any {
	if key == (phasesKey{}) {
		return c.phases
	}
	return c.Context.Value(key)
}

// With returns a context in which PhasesOf finds p.
// It is called once.
func (p *Phases) With(ctx context.Context) context.Context {
	p.in = withPhases{ctx, p}
	return &p.in
}

// PhasesOf returns the phases of the request that ctx belongs to; nil when nobody wants to know them.
func PhasesOf(ctx context.Context) *Phases {
	p, _ := ctx.Value(phasesKey{}).(*Phases)
	return p
}
