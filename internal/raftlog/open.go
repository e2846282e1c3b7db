package raftlog

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// load reads what stands in the database and checks it (docs/format/log.md). It runs before anyone else
// knows the log, so it takes no locks.
func (l *Log) load() error {
	it, err := l.db.NewIter(nil)
	if err != nil {
		return err
	}
	err = l.loadFrom(it)
	if cerr := it.Close(); cerr != nil {
		// An iterator that met a damaged block ends early: its own error comes before ours.
		err = l.db.Explain("reading the log", cerr)
	}
	if err != nil {
		return err
	}
	if invariant.Enabled && l.initialised {
		return l.Verify()
	}
	return nil
}

func (l *Log) loadFrom(it *storage.Iterator) error {
	if !it.First() {
		return nil // a new log, or the iterator's error
	}
	found := map[byte]bool{}
	for ok := true; ok && bytes.Compare(it.Key(), []byte{kindEntry}) < 0; ok = it.Next() {
		if len(it.Key()) != 1 {
			return storage.Corruptf(l.dir, "key %x is of no known kind", it.Key())
		}
		kind := it.Key()[0]
		if err := l.loadRecord(kind, it.Value()); err != nil {
			if errors.Is(err, storage.ErrNewerFormat) {
				return fmt.Errorf("%s: %w", l.dir, err)
			}
			return storage.Corruptf(l.dir, "key %02x: %w", kind, err)
		}
		found[kind] = true
	}
	if it.Error() != nil {
		return nil // the caller gets it from Close
	}
	if len(found) == 0 {
		if _, ok := decodeEntryKey(it.Key()); !ok {
			return storage.Corruptf(l.dir, "key %x is of no known kind", it.Key())
		}
		l.remains = true
		return nil
	}
	for _, kind := range []byte{kindIdentity, kindHardState, kindMark, kindLast} {
		if !found[kind] {
			return storage.Corruptf(l.dir, "key %02x is missing", kind)
		}
	}
	l.initialised = true
	return l.loadEnds(it)
}

func (l *Log) loadRecord(kind byte, val []byte) (err error) {
	switch kind {
	case kindIdentity:
		l.identity, err = storage.DecodeIdentity(val)
	case kindHardState:
		l.hs, err = decodeHardState(val)
	case kindMark:
		l.mark, err = decodeMark(val)
	case kindLast:
		err = decodeUvarints(val, &l.last)
	default:
		err = errors.New("it is of no known kind")
	}
	return err
}

// loadEnds checks that entries exist from the one after the mark to the last and not beyond, by the two at the ends,
// and keeps the last one.
func (l *Log) loadEnds(it *storage.Iterator) error {
	switch {
	case l.last < l.mark.Index:
		return storage.Corruptf(l.dir, "the last entry %d is below the mark %d", l.last, l.mark.Index)
	case l.hs.Commit > l.last:
		return storage.Corruptf(l.dir, "the commit index %d is above the last entry %d", l.hs.Commit, l.last)
	}
	if l.last == l.mark.Index {
		if it.SeekGE([]byte{kindEntry}) {
			return storage.Corruptf(l.dir, "key %x is there, but no entry should be after the mark %d", it.Key(), l.mark.Index)
		}
		return nil
	}
	if _, err := l.expect(it, it.SeekGE([]byte{kindEntry}), "first", l.mark.Index+1); err != nil {
		return err
	}
	e, err := l.expect(it, it.Last(), "last", l.last)
	if err != nil {
		return err
	}
	l.tail.append([]*raftpb.Entry{e})
	return nil
}

// expect reads the entry that the iterator stands at, which must be the one at index.
func (l *Log) expect(it *storage.Iterator, valid bool, which string, index uint64) (*raftpb.Entry, error) {
	if !valid {
		return nil, storage.Corruptf(l.dir, "the %s entry %d is missing", which, index)
	}
	at, ok := decodeEntryKey(it.Key())
	if !ok {
		return nil, storage.Corruptf(l.dir, "key %x is of no known kind", it.Key())
	}
	if at != index {
		return nil, storage.Corruptf(l.dir, "the %s entry is %d and should be %d", which, at, index)
	}
	e, err := decodeEntry(at, it.Value())
	if err != nil {
		return nil, storage.Corruptf(l.dir, "entry %d: %w", at, err)
	}
	return e, nil
}

// Verify reads the whole log and checks that every entry from the first to the last is there and readable, and
// nothing else. It must not run beside Append, Install or Cut.
func (l *Log) Verify() error {
	l.mu.RLock()
	next, last := l.mark.Index+1, l.last
	l.mu.RUnlock()
	it, err := l.db.NewIter(&storage.IterOptions{LowerBound: []byte{kindEntry}})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if _, err = l.expect(it, true, "next", next); err == nil {
			next++
		}
	}
	if cerr := it.Close(); cerr != nil {
		return l.db.Explain("reading the log", cerr)
	}
	if err == nil && next != last+1 {
		err = storage.Corruptf(l.dir, "the entries end at %d and should end at %d", next-1, last)
	}
	return err
}
