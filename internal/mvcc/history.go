package mvcc

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// historyWalk walks history records in order of revision.
type historyWalk struct {
	it  *storage.Iterator
	ok  bool // positioned
	err error

	kind      EventKind
	rev, prev Revision
	prevSize  int    // of the version before's KeyValue
	key       []byte // aliases the iterator
}

// walkHistory starts before the first record at or after from; to is the last main revision. The caller closes it.
func (s *snapshot) walkHistory(from Revision, to int64) (*historyWalk, error) {
	it, err := s.clone(storage.AppendRevKey(nil, storage.SpaceHistory, max(0, from.Main), from.Sub),
		storage.AppendRevKey(nil, storage.SpaceHistory, max(0, to+1), 0))
	if err != nil {
		return nil, err
	}
	return &historyWalk{it: it}, nil
}

// next moves to the next record; false is the end, or an error.
func (h *historyWalk) next() bool {
	if h.err != nil {
		return false
	}
	var at bool
	if !h.ok {
		at, h.ok = h.it.First(), true
	} else {
		at = h.it.Next()
	}
	if !at {
		h.err = h.it.Error()
		return false
	}
	var good bool
	h.rev.Main, h.rev.Sub, good = storage.DecodeRevKey(h.it.Key())
	if !good {
		h.err = fmt.Errorf("%w: history key %x", storage.ErrCorrupt, h.it.Key())
		return false
	}
	v, err := h.it.ValueAndErr()
	if err == nil {
		h.kind, h.prev, h.prevSize, h.key, err = parseHistory(v)
	}
	h.err = err
	return err == nil
}

// close releases the walk and returns what went wrong in it.
func (h *historyWalk) close() error {
	err := h.it.Close()
	if h.err != nil {
		err = h.err
	}
	if err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	return nil
}

// History gives the changes of the revisions [from, to] to fn, in order. What was superseded at or below the compact
// revision may be missing, so from should not be below it: such a from returns ErrCompacted. to above the current
// revision ends there. Event and its slices are valid until fn returns; fn may load from the event and use nothing else of
// the view. An error of fn is returned as it is.
func (v *View) History(from, to int64, fn func(Event) error) error {
	if from < v.compact {
		return fmt.Errorf("history from %d, compacted to %d: %w", from, v.compact, ErrCompacted)
	}
	h, err := v.snap.walkHistory(Revision{Main: from}, min(to, v.Current()))
	if err != nil {
		return err
	}
	for h.next() {
		e := Event{Kind: h.kind, Key: h.key, Rev: h.rev, Prev: h.prev, view: v}
		if err := fn(e); err != nil {
			_ = h.close() // fn's error is the one to tell
			return err
		}
	}
	return h.close()
}

// History is History of a view opened for it.
func (s *Store) History(from, to int64, fn func(Event) error) error {
	v, err := s.View(0)
	if err != nil {
		return err
	}
	err = v.History(from, to, fn)
	if cerr := v.Close(); err == nil {
		err = cerr
	}
	return err
}
