package watch

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// ErrClosed is returned when the stream or its hub was closed.
var ErrClosed = errors.New("watch stream closed")

// The defaults of Options. DefaultResponseBytes is etcd's limit of a request with its overhead.
const (
	DefaultRingBytes     = 16 << 20
	DefaultQueueBytes    = 16 << 20
	DefaultResponseBytes = 1<<20 + 1<<19 + 512<<10
	DefaultTotalBytes    = 512 << 20
)

const inboxBytesMin = 1 << 20

// Options are what a Hub needs. Zero sizes are replaced by the defaults.
type Options struct {
	// View opens a view of the store, as mvcc.Store.View. mvcc.ErrRetired makes the stream that reads try again at
	// once, so it may be returned only for the moment of a swap.
	View func(rev int64) (*mvcc.View, error)
	// Revision returns the store's current revision.
	Revision func() int64
	// Compacted returns the store's compact revision.
	Compacted func() int64
	// RingBytes bounds the newest revisions kept in memory for those that are a little behind, and once more, but
	// not below 1 MiB, the events that wait for the hub. While there are no streams a sixteenth is kept.
	RingBytes int
	// QueueBytes bounds what waits in a stream for its client, beside one chunk of history.
	QueueBytes int
	// ResponseBytes bounds a fragment of a response, and with it the merging of events: a response of several
	// revisions, 1,000 at most, has at most four times as many bytes.
	ResponseBytes int
	// TotalBytes bounds what all streams together hold: queued, on its way to clients, and read from history for
	// those behind. At the bound watchers in step fall behind, and those behind go on in small pieces as far as their own
	// client reads.
	TotalBytes int
}

// withDefaults fills in sizes.
func (o Options) withDefaults() Options {
	set := func(n *int, standard int) {
		if *n <= 0 {
			*n = standard
		}
	}
	set(&o.RingBytes, DefaultRingBytes)
	set(&o.QueueBytes, DefaultQueueBytes)
	set(&o.ResponseBytes, DefaultResponseBytes)
	set(&o.TotalBytes, DefaultTotalBytes)
	return o
}

// Hub distributes the changes of one store to the watchers of its streams. It is safe for concurrent use.
type Hub struct {
	o    Options
	in   inbox
	wake chan struct{} // the inbox may hold something

	// catching bounds the streams that read history at one time to half of the processors, so that writers get
	// theirs however many clients come back at once. A place is held while a step of a chunk is
	// done, never while a client is written to.
	catching chan struct{}

	done   chan struct{}
	ended  sync.WaitGroup
	closed atomic.Bool

	held     atomic.Int64 // bytes that all streams hold
	readers  atomic.Int64 // streams with a chunk under way
	events   atomic.Uint64
	encoded  atomic.Uint64
	watchers atomic.Int64

	// mu guards what follows, the watchers in step and the state of all. It comes before a stream's lock, and the
	// inbox's comes after both.
	mu          sync.Mutex
	index       index
	ring        ring
	streams     map[*Stream]struct{}
	marks       []*Stream // streams that owe their client a progress mark once more is distributed
	distributed atomic.Int64
	advanced    chan struct{} // closed when distributed advances; nil when nobody waits
	batch       batch
}

// NewHub starts a hub whose watchers see what is published from now on, and the past by reading it. Close ends it.
func NewHub(o Options) *Hub {
	o = o.withDefaults()
	h := &Hub{
		o: o, in: inbox{bytesMax: max(o.RingBytes, inboxBytesMin)}, wake: make(chan struct{}, 1), done: make(chan struct{}),
		catching: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		ring:     ring{bytesMax: o.RingBytes}, streams: make(map[*Stream]struct{}),
	}
	current := o.Revision()
	h.distributed.Store(current)
	h.ring.restart(current + 1)
	h.ended.Go(h.run)
	return h
}

// Publish takes in the changes of the next revisions, in order and whole. The apply goroutine calls it: it never waits for
// a stream, a reader or the disk. The slice is not kept, what the events refer to is. What was published already is ignored.
func (h *Hub) Publish(events []mvcc.Event) {
	if len(events) == 0 {
		return
	}
	h.in.put(events)
	wake(h.wake)
}

// Reset says that the state was replaced by a newer one: all watchers go on by reading it. It is called after
// View and Revision serve the new state and before anything of it is published.
func (h *Hub) Reset() {
	h.in.lose(h.o.Revision())
	wake(h.wake)
}

// run distributes whenever something was published.
func (h *Hub) run() {
	for {
		select {
		case <-h.wake:
		case <-h.done:
			return
		}
		h.mu.Lock()
		h.distribute()
		h.mu.Unlock()
	}
}

// full tells whether all streams together would hold too much with n more bytes.
func (h *Hub) full(n int) bool { return h.held.Load()+int64(n) > int64(h.o.TotalBytes) }

// Distributed returns the revision up to which every event was queued for the watchers in step; the others know
// that they are behind.
func (h *Hub) Distributed() int64 { return h.distributed.Load() }

// WaitDistributed waits until Distributed is at or above rev. It returns ErrClosed when the hub was closed and the error
// of ctx.
func (h *Hub) WaitDistributed(ctx context.Context, rev int64) error {
	for {
		h.mu.Lock()
		if h.Distributed() >= rev {
			h.mu.Unlock()
			return nil
		}
		if h.advanced == nil {
			h.advanced = make(chan struct{})
		}
		advanced := h.advanced
		h.mu.Unlock()
		select {
		case <-advanced:
		case <-h.done:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends the hub and its streams and waits for its goroutine. Publish may still be called and does nothing.
func (h *Hub) Close() {
	if h.closed.Swap(true) {
		return
	}
	close(h.done)
	h.ended.Wait()
	h.in.close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.streams {
		s.closeLocked()
	}
}

// NewStream opens a stream. On a closed hub its Next returns ErrClosed.
func (h *Hub) NewStream() *Stream {
	s := &Stream{hub: h, wake: make(chan struct{}, 1), watchers: make(map[int64]*watcher), records: chunkRecordsMax}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		s.closed = true
		return s
	}
	h.streams[s] = struct{}{}
	return s
}

// Stats are numbers for metrics.
type Stats struct {
	Streams  int    // open streams
	Watchers int    // watchers of all streams
	Behind   int    // those of them that read history
	Pending  int    // events queued and not yet taken by Next, counted for each watcher
	Held     int    // bytes that all streams hold, of those that Options.TotalBytes bounds
	Inbox    int    // events that wait for the hub
	Events   uint64 // events given to watchers by Next since the start
	Encoded  uint64 // events encoded since the start
	// Lags are how many revisions the streams are behind that are, the greatest first, at most LagsMax of them.
	Lags []int64
}

// LagsMax bounds Stats.Lags.
const LagsMax = 10

// Stats returns the numbers as they are now. It looks at every stream.
func (h *Hub) Stats() Stats {
	current := h.o.Revision()
	st := Stats{
		Watchers: int(h.watchers.Load()), Inbox: h.in.waiting(),
		Held: int(h.held.Load()), Events: h.events.Load(), Encoded: h.encoded.Load(),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	st.Streams = len(h.streams)
	for s := range h.streams {
		s.mu.Lock()
		if st.Behind += s.behindN; s.lost != 0 {
			st.Behind += len(s.watchers) - s.behindN - s.compactedN
		}
		st.Pending += s.pendingN
		if s.behindN > 0 && s.behindAt > 0 {
			st.Lags = append(st.Lags, max(0, current+1-s.behindAt))
		}
		s.mu.Unlock()
	}
	slices.SortFunc(st.Lags, func(a, b int64) int { return cmp.Compare(b, a) })
	st.Lags = st.Lags[:min(LagsMax, len(st.Lags))]
	return st
}

// wake wakes the one who waits for ch, now or when it next looks.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
