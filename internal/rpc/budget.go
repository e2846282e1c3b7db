package rpc

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/mem"
)

// DefaultResponseBudget is the budget of large responses when none is given.
const DefaultResponseBudget = 512 << 20

// budget bounds the memory that all large responses together hold, from the first chunk that is built until gRPC has
// written the last one to its connection. Small responses (up to freeBytes) are not counted.
//
// At the bound a response that is being built waits until others are written, or its context ends. So that responses
// that wait for each other do not wait for ever, the oldest one being built may go over the bound once nothing
// that is counted is being written any more: the memory counted is at most the bound and one response.
// A client that does not read its large response keeps its share until its connection ends.
//
// It is also the mem.BufferPool of the chunks that are counted: gRPC gives them back by Put.
type budget struct {
	max int64

	mu       sync.Mutex
	building int64         // held by responses that are being built
	writing  int64         // held by responses that were handed to gRPC
	order    []*share      // responses being built, oldest first
	changed  chan struct{} // closed and renewed when someone may go on; nil when nobody waits
}

// share is what one response that is being built holds of a budget.
type share struct {
	b    *budget
	held int64
}

func newBudget(bytes int64) *budget {
	if bytes <= 0 {
		bytes = DefaultResponseBudget
	}
	return &budget{max: bytes}
}

// grow takes n more bytes, waiting until they may be had.
func (s *share) grow(ctx context.Context, n int64) error {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.held == 0 {
		b.order = append(b.order, s)
	}
	for b.building+b.writing+n > b.max && (b.writing > 0 || b.order[0] != s) {
		if err := b.wait(ctx); err != nil {
			if s.held == 0 {
				b.leave(s)
			}
			return err
		}
	}
	b.building += n
	s.held += n
	return nil
}

// wait waits for a change. REQUIRES: mu is held; it is held again on return.
func (b *budget) wait(ctx context.Context) error {
	if b.changed == nil {
		b.changed = make(chan struct{})
	}
	changed := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// finish says that the response is built: its chunks come back through Put.
func (s *share) finish() {
	if s.held == 0 {
		return
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.building -= s.held
	s.b.writing += s.held
	s.held = 0
	s.b.leave(s)
}

// leave takes s off the responses being built. REQUIRES: mu is held.
func (b *budget) leave(s *share) {
	if i := slices.Index(b.order, s); i >= 0 {
		b.order = slices.Delete(b.order, i, i+1)
	}
	b.wake()
}

// wake lets all that wait look again. REQUIRES: mu is held.
func (b *budget) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Get implements mem.BufferPool. gRPC never calls it: chunks are counted by grow first.
func (b *budget) Get(n int) *[]byte { return chunkPool.Get(n) }

// Put implements mem.BufferPool: a chunk was written.
func (b *budget) Put(p *[]byte) {
	n := int64(cap(*p))
	chunkPool.Put(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing -= n
	b.wake()
}

var _ mem.BufferPool = (*budget)(nil)
