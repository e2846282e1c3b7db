package rpc

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/measure"
)

// DefaultResponseBudget is the budget of large responses when none is given.
const DefaultResponseBudget = 512 << 20

// stallAfter is how long a client that was handed a large response may read nothing of it while others wait.
const stallAfter = 10 * time.Second

// budget bounds the memory that all large responses together hold, from the first chunk that is built until gRPC has
// written the last one to its connection. Small responses (up to freeBytes) are not counted.
//
// At the bound a response that is being built waits until others are written, or its context ends. So that responses
// that wait for each other do not wait for ever, the oldest one being built may go over the bound once nothing
// that is counted is being written any more: the memory counted is at most the bound and one response.
//
// A client that does not read its large response keeps its share, until others have waited for stallAfter: then its
// connection is closed, so that a slow client costs only itself.
type budget struct {
	max   int64
	clock clock.Clock
	conns *Conns // nil when it is not known which are open

	mu       sync.Mutex
	building int64               // held by responses that are being built
	writing  int64               // held by responses that were handed to gRPC
	order    []*share            // responses being built, oldest first
	handed   map[*share]struct{} // responses being written
	changed  chan struct{}       // closed and renewed when someone may go on; nil when nobody waits
	excess                       // what a large response brings along
}

// share is what one response holds of a budget. It is also the mem.BufferPool of the chunks that are counted: gRPC gives
// them back by Put.
type share struct {
	b      *budget
	client string // the address of the connection it goes to
	held   int64  // while it is built

	writing  int64     // not yet written; guarded by b.mu, as the next
	progress time.Time // when the last chunk was written, or the response handed on
}

func newBudget(bytes int64) *budget {
	if bytes <= 0 {
		bytes = DefaultResponseBudget
	}
	return &budget{max: bytes, clock: clock.Real(), handed: make(map[*share]struct{}),
		excess: excess{giveBack: returnMemory}}
}

// grow takes n more bytes, waiting until they may be had.
func (s *share) grow(ctx context.Context, n int64) error {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.held == 0 {
		b.order = append(b.order, s)
		if p, ok := peer.FromContext(ctx); ok {
			s.client = p.Addr.String()
		}
	}
	if b.blocks(s, n) {
		if err := b.wait(ctx, s, n); err != nil {
			if s.held == 0 {
				b.leave(s)
			}
			return err
		}
	}
	s.held += n
	b.add(n, 0)
	return nil
}

// shrink gives n bytes back while the response is built.
func (s *share) shrink(n int64) {
	if n == 0 {
		return
	}
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(-n, 0)
	if s.held -= n; s.held == 0 {
		b.leave(s)
		return
	}
	b.wake()
}

// blocks tells whether s has to wait for n more bytes. REQUIRES: mu is held.
func (b *budget) blocks(s *share, n int64) bool {
	return b.building+b.writing+n > b.max && (b.writing > 0 || b.order[0] != s)
}

// wait waits until s may have n more bytes, and cuts off clients that hold it up. REQUIRES: mu is held; it is held again on
// return.
func (b *budget) wait(ctx context.Context, s *share, n int64) error {
	phases := measure.PhasesOf(ctx)
	phases.Enter(measure.Memory)
	defer phases.Enter(measure.ReadingKeys)
	patience := b.clock.NewTicker(stallAfter)
	defer patience.Stop()
	for b.blocks(s, n) {
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case now := <-patience.C():
			b.cutStalled(now)
		}
		b.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// cutStalled closes the connections whose clients read nothing of a response for stallAfter.
func (b *budget) cutStalled(now time.Time) {
	if b.conns == nil {
		return
	}
	for _, client := range b.stalled(now) {
		b.conns.cut(client)
	}
}

func (b *budget) stalled(now time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for s := range b.handed {
		if now.Sub(s.progress) >= stallAfter && !slices.Contains(out, s.client) {
			out = append(out, s.client)
		}
	}
	return out
}

// gone says that the connection of a client has ended: what was on its way to it is held no more. gRPC does not give
// those buffers back, but lets the garbage collector have them.
func (b *budget) gone(client string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.handed {
		if s.client == client {
			b.add(0, -s.writing)
			s.writing = 0
			delete(b.handed, s)
		}
	}
	b.wake()
}

// finish says that the response is built: its chunks come back through Put.
func (s *share) finish() {
	if s.held == 0 {
		return
	}
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	written := int64(0) // it is known when
	if b.conns == nil || b.conns.has(s.client) {
		written, s.writing = s.held, s.held
		s.progress = b.clock.Now()
		b.handed[s] = struct{}{}
	} // else nobody will say any more that it was written
	b.add(-s.held, written)
	s.held = 0
	b.leave(s)
}

// add changes what is held, and what goes with it. REQUIRES: mu is held.
func (b *budget) add(building, writing int64) {
	b.building += building
	b.writing += writing
	b.follow()
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
func (s *share) Get(n int) *[]byte { return chunkPool.Get(n) }

// Put implements mem.BufferPool: a chunk was written, or will never be.
func (s *share) Put(p *[]byte) {
	n := int64(cap(*p))
	chunkPool.Put(p)
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, s.writing) // 0 when the client has gone
	s.writing -= n
	b.add(0, -n)
	s.progress = b.clock.Now()
	if s.writing <= 0 {
		delete(b.handed, s)
	}
	b.wake()
}

var _ mem.BufferPool = (*share)(nil)
