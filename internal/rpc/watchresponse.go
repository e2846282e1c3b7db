package rpc

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/h2"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// The fields of WatchResponse beside the header; events come encoded.
const (
	watchID       = 2
	watchCreated  = 3
	watchCanceled = 4
	watchCompact  = 5
	watchReason   = 6
	watchFragment = 7
)

// watchHeadMax is the most that all fields but the events take, without the text of the reason.
const watchHeadMax = 128

// watchShareMin is the size from which an event is handed to gRPC as it is. Smaller ones are copied side by side: a piece
// more costs more than the copy.
const watchShareMin = 8 << 10

// errRevisionTooLarge ends a stream of watches, as grpc-go's server ends etcd's: the events of one revision, which only fragments part, take more than
// responseMax. Who goes on there without fragments is ended again.
var errRevisionTooLarge = status.Errorf(codes.ResourceExhausted,
	"ashlar: the events of a revision are larger than %d bytes: watch with fragment, or without prev_kv", responseMax)

// watchResponse is a WatchResponse that is ready to be encoded: into what the transport writes, or into chunks for the codec. It is not counted in
// the budget of large responses: a stream has one of them at a time, bounded by the hub, and shares large events with all others.
type watchResponse struct {
	head   []byte // all but the events, encoded
	events [][]byte
	size   int // of the events
}

var _ h2.Appender = (*watchResponse)(nil)

// watchEncoder encodes the messages of a stream. Each response is to be sent before the next is encoded.
type watchEncoder struct {
	last     header // of the message before, encoded in head: that of one revision goes to many watchers
	head     []byte
	response watchResponse
}

// encode encodes m. The response is of use until the next one, and as long as m is valid.
func (e *watchEncoder) encode(h header, m *watch.Message) (*watchResponse, error) {
	if m.Size+watchHeadMax+len(m.Reason) > responseMax {
		return nil, errRevisionTooLarge
	}
	if e.head == nil || h != e.last {
		e.last, e.head = h, h.append(e.head[:0])
	}
	e.response = watchResponse{head: e.appendHead(e.response.head[:0], m), events: m.Events, size: m.Size}
	return &e.response, nil
}

// Length implements h2.Appender.
func (r *watchResponse) Length() int { return len(r.head) + r.size }

// AppendTo implements h2.Appender.
func (r *watchResponse) AppendTo(dst []byte) []byte {
	return appendEvents(append(dst, r.head...), r.events)
}

// take encodes the response for the codec. The chunks refer to large events and copy the others.
func (r *watchResponse) take() mem.BufferSlice {
	events := r.events
	n, small := smallEvents(events)
	cur := chunkPool.Get(len(r.head) + small)
	*cur = appendEvents(append((*cur)[:0], r.head...), events[:n])
	events = events[n:]
	chunks := append(make(mem.BufferSlice, 0, 1), mem.NewBuffer(cur, chunkPool))
	for len(events) > 0 {
		if n, small = smallEvents(events); n == 0 {
			chunks = append(chunks, mem.SliceBuffer(events[0]))
			events = events[1:]
			continue
		}
		cur = chunkPool.Get(small)
		*cur = appendEvents((*cur)[:0], events[:n])
		chunks = append(chunks, mem.NewBuffer(cur, chunkPool))
		events = events[n:]
	}
	return chunks
}

// smallEvents says how many of the first events go into one chunk, and how long they are together.
func smallEvents(events [][]byte) (n, size int) {
	for n < len(events) && len(events[n]) < watchShareMin && size+len(events[n])+watchHeadMax <= chunkLarge {
		size += len(events[n])
		n++
	}
	return n, size
}

func appendEvents(dst []byte, events [][]byte) []byte {
	for _, e := range events {
		dst = append(dst, e...)
	}
	return dst
}

// appendHead appends all of m but its events.
func (e *watchEncoder) appendHead(dst []byte, m *watch.Message) []byte {
	dst = append(dst, e.head...)
	dst = appendNumber(dst, watchID, uint64(m.WatchID))
	dst = appendFlag(dst, watchCreated, m.Created)
	dst = appendFlag(dst, watchCanceled, m.Canceled)
	dst = appendNumber(dst, watchCompact, uint64(m.CompactRevision))
	if m.Reason != "" {
		dst = append(appendBytesHead(dst, watchReason, len(m.Reason)), m.Reason...)
	}
	return appendFlag(dst, watchFragment, m.Fragment)
}

// appendFlag appends a field that holds a truth value, unless it is false.
func appendFlag(dst []byte, field uint32, set bool) []byte {
	if !set {
		return dst
	}
	return appendNumber(dst, field, 1)
}
