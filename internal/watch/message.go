package watch

// Message is one answer to a client, to be written as one WatchResponse. Its slices are shared with other streams
// and must not be changed. It is valid until the stream is asked for the next one.
type Message struct {
	// WatchID is the watcher's id, -1 for refusals and for progress asked for by hand.
	WatchID int64
	// Revision is the one for the response's header; 0 leaves it out.
	Revision int64
	// Created and Canceled mark the beginning and the end of a watcher; both together are a refusal.
	Created, Canceled bool
	// Fragment tells that more of the same response follows.
	Fragment bool
	// History tells that the events were read from history: Stream.Rest's function was called for them.
	History bool
	// CompactRevision says why a watcher was canceled: what it needs was compacted. 0 when it was not that.
	CompactRevision int64
	// Reason says why a watcher was refused, empty when it was not.
	Reason string
	// Events are the changes, in order. Each is field 11 of a WatchResponse as on the wire: tag, length and the
	// encoded mvccpb.Event.
	Events [][]byte
	// Size is the sum of the lengths of Events, in bytes.
	Size int
}

// add appends an event.
func (m *Message) add(event []byte) {
	m.Events = append(m.Events, event)
	m.Size += len(event)
}

// mark tells whether m is a progress mark that was asked for by hand.
func (m *Message) mark() bool { return m.WatchID == refusedID && !m.Created }
