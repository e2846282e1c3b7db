package mvcc

// EventKind tells what a change did.
type EventKind byte

// The kinds, numbered as in history records and in mvccpb.Event.
const (
	EventPut EventKind = iota
	EventDelete
)

// Event is one change.
type Event struct {
	// Kind tells put from delete.
	Kind EventKind
	// Key is the key that changed.
	Key []byte
	// Rev is the change's revision.
	Rev Revision
	// Prev is the revision of the live version it replaced or deleted, zero when there was none. Compaction may
	// have removed that version.
	Prev Revision
	// Lease is the lease that the version of a put hangs on, and PrevLease that of the live version it replaced or
	// deleted; 0 for none. They are set in events from Writer.Events only.
	Lease, PrevLease int64

	raw      []byte
	prevSize int // of the previous version's KeyValue; in events of a Writer only
	view     *View
}

// Load returns the version that a put wrote, and for a delete the KV of the zero value. The KV of an event from
// Writer.Events lives as long as it is referred to; that of an event from History until the function it
// was given to returns or loads another.
func (e Event) Load() (KV, error) {
	if e.Kind == EventDelete || e.raw != nil {
		return KV{e.raw}, nil
	}
	return e.view.loadVersion(e.Key, e.Rev)
}

// LoadPrev returns the version that the change replaced or deleted; ok is false when there was none or
// compaction has removed it. It serves events from History only, and the KV lives like that of Load.
func (e Event) LoadPrev() (kv KV, ok bool, err error) {
	if e.Prev.IsZero() || e.view == nil {
		return KV{}, false, nil
	}
	return e.view.At(e.Key, e.Prev)
}
