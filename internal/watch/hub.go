package watch

import (
	"context"
	"errors"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// ErrClosed is returned when the stream or its hub was closed.
var ErrClosed = errors.New("watch stream closed")

// Options are what a Hub needs. Zero sizes are replaced by the defaults.
type Options struct {
	// View opens a view of the store, as mvcc.Store.View; mvcc.ErrRetired makes the hub try again, so
	// it must not return that forever.
	View func(rev int64) (*mvcc.View, error)
	// Revision returns the store's current revision.
	Revision func() int64
	// Compacted returns the store's compact revision.
	Compacted func() int64
	// RingBytes bounds the newest revisions kept in memory for those that are a little behind, and the
	// events that wait for the hub.
	RingBytes int
	// QueueBytes bounds what waits in a stream for its client.
	QueueBytes int
	// ResponseBytes bounds a fragment of a response.
	ResponseBytes int
}

// Hub distributes the changes of one store to the watchers of its streams. It is safe for concurrent use.
type Hub struct {
	o Options
}

// NewHub starts a hub. Close ends it.
func NewHub(o Options) *Hub { return &Hub{o: o} }

// Publish takes in the changes of the next revisions, in order and whole. The apply goroutine calls it: it never waits for
// a stream, a reader or the disk. The events are kept.
func (h *Hub) Publish(events []mvcc.Event) {}

// Reset says that the state was replaced: all watchers go on by reading it.
func (h *Hub) Reset() {}

// Distributed returns the revision up to which every event was queued for the watchers in step; the others know
// that they are behind.
func (h *Hub) Distributed() int64 { return 0 }

// WaitDistributed waits until Distributed is at or above rev. It returns ErrClosed when the hub was closed and the error
// of ctx.
func (h *Hub) WaitDistributed(ctx context.Context, rev int64) error { return nil }

// Close ends the hub and its streams. Publish may still be called and does nothing.
func (h *Hub) Close() {}

// Stats are numbers for metrics.
type Stats struct {
	Streams  int    // open streams
	Watchers int    // watchers of all streams, without those canceled
	Behind   int    // watchers that read history
	Pending  int    // events queued and not yet taken by Next
	Inbox    int    // events that wait for the hub
	Events   uint64 // events queued or read from history for watchers since the start
	Encoded  uint64 // events encoded since the start
}

// Stats returns the numbers as they are now.
func (h *Hub) Stats() Stats { return Stats{} }

// NewStream opens a stream. On a closed hub its Next returns ErrClosed.
func (h *Hub) NewStream() *Stream { return &Stream{hub: h} }
