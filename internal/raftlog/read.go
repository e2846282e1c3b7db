package raftlog

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// Term returns the term of the entry at index i, or of the mark. It wraps ErrCompacted below the mark and ErrUnavailable
// above the last entry. It does not touch the disk for entries in the memory tail.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.RLock()
	mark, last, e := l.mark, l.last, l.tail.get(i)
	l.mu.RUnlock()
	switch {
	case i == mark.Index:
		return mark.Term, nil
	case i < mark.Index:
		return 0, fmt.Errorf("%w: term of %d, the mark is %d", ErrCompacted, i, mark.Index)
	case i > last:
		return 0, fmt.Errorf("%w: term of %d, the last is %d", ErrUnavailable, i, last)
	case e != nil:
		return e.GetTerm(), nil
	}
	term, found, err := l.storedTerm(i)
	if err == nil && !found {
		err = l.missing(i)
	}
	return term, err
}

// storedTerm reads the term of an entry from the database.
func (l *Log) storedTerm(i uint64) (term uint64, found bool, err error) {
	found, err = l.db.Get(entryKey(i), func(val []byte) error {
		e, err := decodeEntry(i, val)
		if err != nil {
			return storage.Corruptf(l.dir, "entry %d: %w", i, err)
		}
		term = e.GetTerm()
		return nil
	})
	if err != nil {
		return 0, found, fmt.Errorf("read entry %d: %w", i, err)
	}
	return term, found, nil
}

// Entries returns the entries [lo, hi), or as many from lo on as fit into maxBytes in raft's encoding, but at least
// one. It wraps ErrCompacted when lo is at or below the mark and ErrUnavailable when hi - 1 is above the
// last entry.
func (l *Log) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	l.mu.RLock()
	mark, last := l.mark.Index, l.last
	held, inTail := l.tail.first()
	var newest []*raftpb.Entry
	if inTail && lo < hi && hi <= last+1 && hi > held {
		from := l.tail.from(max(lo, held))
		newest = limited(from[:hi-max(lo, held)], maxBytes)
	}
	l.mu.RUnlock()
	switch {
	case lo <= mark:
		return nil, fmt.Errorf("%w: entries from %d, the mark is %d", ErrCompacted, lo, mark)
	case hi > last+1:
		return nil, fmt.Errorf("%w: entries up to %d, the last is %d", ErrUnavailable, hi-1, last)
	case lo >= hi:
		return nil, nil
	case inTail && lo >= held:
		return newest, nil
	}
	to := hi
	if inTail {
		to = min(hi, held)
	}
	older, left, err := l.read(lo, to, maxBytes)
	if err != nil || uint64(len(older)) < to-lo {
		return older, err
	}
	for _, e := range newest {
		size := encodedBytes(e)
		if size > left {
			break
		}
		left -= size
		older = append(older, e)
	}
	return older, nil
}

// limited returns a copy of the entries that fit, at least one.
func limited(entries []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	n, size := 0, uint64(0)
	for n < len(entries) {
		size += encodedBytes(entries[n])
		if n > 0 && size > maxBytes {
			break
		}
		n++
	}
	return append(make([]*raftpb.Entry, 0, n), entries[:n]...)
}

// read returns entries [lo, hi) from the database as far as they fit, at least one, and how many bytes are left.
func (l *Log) read(lo, hi, maxBytes uint64) (entries []*raftpb.Entry, left uint64, err error) {
	it, err := l.db.NewIter(&storage.IterOptions{LowerBound: entryKey(lo), UpperBound: entryKey(hi)})
	if err != nil {
		return nil, 0, err
	}
	left = maxBytes
	next := lo
	for ok := it.First(); ok; ok = it.Next() {
		at, isEntry := decodeEntryKey(it.Key())
		if !isEntry || at != next {
			break
		}
		var e *raftpb.Entry
		if e, err = decodeEntry(at, it.Value()); err != nil {
			err = storage.Corruptf(l.dir, "entry %d: %w", at, err)
			break
		}
		size := encodedBytes(e)
		if size > left && len(entries) > 0 {
			hi = next // full: nothing is missing
			break
		}
		entries = append(entries, e)
		left -= min(size, left)
		next++
	}
	if cerr := it.Close(); cerr != nil {
		return nil, 0, l.db.Explain("reading entries", cerr)
	}
	if err != nil {
		return nil, 0, err
	}
	if next < hi {
		return nil, 0, l.missing(next)
	}
	return entries, left, nil
}

// missing explains why an entry that was in the log a moment ago is not there: it was cut or overwritten
// meanwhile, or the database is damaged. A batch is visible in the database before its effect is in memory,
// so the verdict waits for the one that may be under way.
func (l *Log) missing(i uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	l.mu.RLock()
	mark, last := l.mark.Index, l.last
	l.mu.RUnlock()
	switch {
	case i <= mark:
		return fmt.Errorf("%w: entry %d, the mark is %d", ErrCompacted, i, mark)
	case i > last:
		return fmt.Errorf("%w: entry %d, the last is %d", ErrUnavailable, i, last)
	}
	return l.gap(i)
}

func (l *Log) gap(i uint64) error {
	return storage.Corruptf(l.dir, "entry %d is missing between the first and the last one", i)
}
