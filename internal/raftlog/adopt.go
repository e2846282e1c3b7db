package raftlog

import (
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// Adoption fills a new log with the entries of another one. They are written as they come, so that memory is bounded, and are no
// log until Commit: a crash before it leaves the log uninitialised. It belongs to one goroutine.
type Adoption struct {
	l           *Log
	first, last uint64 // of what is staged; first is 0 when nothing is
}

// Adopt begins an adoption. Whatever an earlier one has left is removed.
func (l *Log) Adopt() (*Adoption, error) {
	if l.Initialised() {
		return nil, fmt.Errorf("%w: adoption into a log that is initialised", errMisuse)
	}
	a := &Adoption{l: l}
	return a, a.Reset()
}

// Reset removes what is staged.
func (a *Adoption) Reset() error {
	a.first, a.last = 0, 0
	return a.write(func(b *storage.Batch) error { return b.DeleteRange(entryKey(0), entriesEnd, nil) })
}

// Add stages entries, which go up one by one from the index after the last, or from one that is staged: that one and all after
// it are replaced.
func (a *Adoption) Add(entries []*raftpb.Entry) error {
	entries, err := flatten(entries)
	if err != nil || len(entries) == 0 {
		return err
	}
	at := entries[0].GetIndex()
	if a.first != 0 && (at < a.first || at > a.last+1) {
		return fmt.Errorf("%w: entry %d where [%d, %d] is staged", errMisuse, at, a.first, a.last)
	}
	err = a.write(func(b *storage.Batch) error {
		if a.first == 0 || at > a.last {
			return setEntries(b, entries)
		}
		return errors.Join(b.DeleteRange(entryKey(at), entriesEnd, nil), setEntries(b, entries))
	})
	if a.first == 0 {
		a.first = at
	}
	a.last = entries[len(entries)-1].GetIndex()
	return err
}

// Commit makes the log of what is staged, which must begin after the mark, in one synced batch: the commit point.
func (a *Adoption) Commit(id storage.Identity, hs HardState, m Mark) error {
	a.l.write.Lock()
	defer a.l.write.Unlock()
	last := m.Index
	if a.first != 0 {
		last = a.last
	}
	if a.first != 0 && a.first != m.Index+1 || hs.Commit > last {
		return fmt.Errorf("%w: [%d, %d] is staged for the mark %d and the commit %d", errMisuse, a.first, a.last, m.Index, hs.Commit)
	}
	b := a.l.db.NewBatch()
	defer b.Close() //nolint:errcheck // gives memory back, nothing else
	if err := errors.Join(
		b.Set(keyIdentity, id.Encode(), nil),
		b.Set(keyHardState, hs.encode(), nil),
		b.Set(keyMark, m.encode(), nil),
		b.Set(keyLast, appendUvarints(nil, last), nil),
	); err != nil {
		return fmt.Errorf("fill a batch of the raft log: %w", err)
	}
	if err := a.l.db.Commit(b, true); err != nil {
		return fmt.Errorf("write the raft log: %w", err)
	}
	a.l.sealer.appended()
	a.l.mu.Lock()
	defer a.l.mu.Unlock()
	a.l.showLocked(change{identity: &id, hs: &hs, mark: &m})
	a.l.last = last
	return a.l.keepLastLocked()
}

// keepLastLocked reads the last entry into the tail, which always holds it.
func (l *Log) keepLastLocked() error {
	if l.last == l.mark.Index {
		return nil
	}
	var e *raftpb.Entry
	found, err := l.db.Get(entryKey(l.last), func(v []byte) (err error) {
		e, err = decodeEntry(l.last, v)
		return err
	})
	if err != nil || !found {
		return errors.Join(fmt.Errorf("read entry %d again", l.last), err)
	}
	l.tail.append([]*raftpb.Entry{e})
	return nil
}

// write commits one batch, unsynced.
func (a *Adoption) write(fill func(b *storage.Batch) error) error {
	a.l.write.Lock()
	defer a.l.write.Unlock()
	b := a.l.db.NewBatch()
	defer b.Close() //nolint:errcheck // gives memory back, nothing else
	if err := fill(b); err != nil {
		return fmt.Errorf("stage entries of another log: %w", err)
	}
	if err := a.l.db.Commit(b, false); err != nil {
		return fmt.Errorf("stage entries of another log: %w", err)
	}
	a.l.remains = true
	return nil
}
