package mvcc

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// Commit makes the group's effect and its applied index visible, together. After an error the store must not be used
// further: what the database holds is not known. Keys and values handed out by the Writer are invalid afterwards, Events
// stay.
func (w *Writer) Commit() error {
	err := w.commit()
	if cerr := w.end(); err == nil && cerr != nil {
		err = fmt.Errorf("closing a group of entries: %w", cerr)
	}
	return err
}

// Discard drops the group: nothing of it happened.
func (w *Writer) Discard() {
	// The batch was never applied and the iterator only read: an error here changes nothing.
	_ = w.end()
}

func (w *Writer) end() error {
	w.ahead.stop()
	w.over.reset()
	spare := &w.store.spare
	spare.over, spare.expected, spare.keys = w.over, emptied(w.ahead.expected), emptied(w.ahead.keys)
	w.over, w.ahead.expected, w.ahead.keys = overlay{}, nil, nil
	err := w.base.close()
	if w.batch != nil {
		if cerr := w.batch.Close(); err == nil {
			err = cerr
		}
		w.batch = nil
	}
	return err
}

func (w *Writer) commit() error {
	invariant.Check(!w.begun, "commit inside of an entry")
	old := w.base.now
	runs, err := w.editRuns()
	if err != nil {
		return fmt.Errorf("counting what a group of entries created and deleted: %w", err)
	}
	if w.dirty || w.revision != old.revision {
		applied := encodeNumbers(w.index, w.term, uint64(w.revision))
		if err := w.batch.Set(metaKey(metaApplied), applied, nil); err != nil {
			return fmt.Errorf("setting the applied index: %w", err)
		}
	}
	next := &published{revision: w.revision, compact: w.compact, written: w.written, index: w.index, term: w.term, runs: runs}
	if w.compact != old.compact {
		scheduled := encodeNumbers(uint64(w.compact))
		if err := w.batch.Set(metaKey(metaCompactScheduled), scheduled, nil); err != nil {
			return fmt.Errorf("setting the compact revision: %w", err)
		}
	}
	if w.written != old.written {
		if err := w.batch.Set(metaKey(metaSizeWritten), encodeNumbers(uint64(w.written)), nil); err != nil {
			return fmt.Errorf("setting how much was written: %w", err)
		}
	}
	if w.batch.Empty() {
		return nil
	}
	w.store.heads.learn(&w.over) // before the commit, which leaves little of what this needs in the processor's caches
	if err := w.store.db.Commit(w.batch); err != nil {
		return fmt.Errorf("committing a group of entries: %w", err)
	}
	w.store.committed.Add(uint64(len(w.events)))
	w.store.kept.expect(w.compactions)
	w.store.newest.changed(&w.over, next.revision)
	w.store.now.Store(next)
	return nil
}

// editRuns returns the runs after the group and writes their records.
func (w *Writer) editRuns() (*runList, error) {
	old := w.base.now.runs
	deltas := w.over.deltas()
	if len(deltas) == 0 {
		return old, nil
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	edit := runEdit{list: old, base: &w.base, batch: w.batch}
	return edit.apply(deltas)
}
