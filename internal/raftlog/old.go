package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// The keys of a log in Pebble (docs/format/log.md).
const (
	oldIdentity  = 0x01
	oldHardState = 0x02
	oldMark      = 0x03
	oldLast      = 0x04
	oldEntry     = 0x10

	oldEntryKeyBytes = 1 + 8
)

// oldLog is a log in Pebble, for reading alone.
type oldLog struct {
	dir   string
	db    *storage.DB
	state state
}

// openOld opens the log in Pebble; nil if there is none.
func openOld(dir string, o storage.Options) (*oldLog, error) {
	db, err := storage.OpenPebbleLog(dir, o)
	if err != nil || db == nil {
		return nil, err
	}
	l := &oldLog{dir: dir, db: db}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

func oldEntryKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{oldEntry}, index)
}

func decodeOldEntryKey(key []byte) (index uint64, ok bool) {
	if len(key) != oldEntryKeyBytes || key[0] != oldEntry {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// decodeOldEntry returns an entry that does not alias b.
func decodeOldEntry(index uint64, b []byte) (*raftpb.Entry, error) {
	term, n := binary.Uvarint(b)
	if n <= 0 || n >= len(b) || b[n] > byte(raftpb.EntryConfChangeV2) {
		return nil, errRecord
	}
	return entryHead{term: term, kind: b[n]}.entry(index, bytes.Clone(nonEmpty(b[n+1:]))), nil
}

func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// load reads what stands in the database and checks it.
func (l *oldLog) load() error {
	it, err := l.db.NewIter(nil)
	if err != nil {
		return err
	}
	err = l.loadFrom(it)
	if cerr := it.Close(); cerr != nil {
		// An iterator that met a damaged block ends early: its own error comes before ours.
		err = l.db.Explain("reading the log", cerr)
	}
	return err
}

func (l *oldLog) loadFrom(it *storage.Iterator) error {
	found := map[byte]bool{}
	ok := it.First()
	for ; ok && bytes.Compare(it.Key(), []byte{oldEntry}) < 0; ok = it.Next() {
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
		if !ok {
			return nil // a new log
		}
		if _, ok := decodeOldEntryKey(it.Key()); !ok {
			return storage.Corruptf(l.dir, "key %x is of no known kind", it.Key())
		}
		return nil // an adoption broke off: what is staged is of no use
	}
	for _, kind := range []byte{oldIdentity, oldHardState, oldMark, oldLast} {
		if !found[kind] {
			return storage.Corruptf(l.dir, "key %02x is missing", kind)
		}
	}
	l.state.initialised = true
	return l.loadEnds(it)
}

func (l *oldLog) loadRecord(kind byte, val []byte) (err error) {
	s := &l.state
	switch kind {
	case oldIdentity:
		s.identity, err = storage.DecodeIdentity(val)
	case oldHardState:
		err = decodeUvarints(val, &s.hs.Term, &s.hs.Vote, &s.hs.Commit)
	case oldMark:
		err = decodeUvarints(val, &s.mark.Index, &s.mark.Term, &s.mark.Generation)
	case oldLast:
		err = decodeUvarints(val, &s.last)
	default:
		err = errors.New("it is of no known kind")
	}
	return err
}

// decodeUvarints fills the fields from b, which must hold exactly those.
func decodeUvarints(b []byte, to ...*uint64) error {
	d := fields{b: b}
	for _, f := range to {
		*f = d.uvarint()
	}
	if d.bad || len(d.b) != 0 {
		return errRecord
	}
	return nil
}

// loadEnds checks that entries exist from the one after the mark to the last and not beyond, by the two at the ends.
func (l *oldLog) loadEnds(it *storage.Iterator) error {
	s := &l.state
	switch {
	case s.last < s.mark.Index:
		return storage.Corruptf(l.dir, "the last entry %d is below the mark %d", s.last, s.mark.Index)
	case s.hs.Commit > s.last:
		return storage.Corruptf(l.dir, "the commit index %d is above the last entry %d", s.hs.Commit, s.last)
	}
	if s.last == s.mark.Index {
		if it.SeekGE([]byte{oldEntry}) {
			return storage.Corruptf(l.dir, "key %x is there, but no entry should be after the mark %d", it.Key(), s.mark.Index)
		}
		return nil
	}
	if _, err := l.expect(it, it.SeekGE([]byte{oldEntry}), "first", s.mark.Index+1); err != nil {
		return err
	}
	_, err := l.expect(it, it.Last(), "last", s.last)
	return err
}

// expect reads the entry that the iterator stands at, which must be the one at index.
func (l *oldLog) expect(it *storage.Iterator, valid bool, which string, index uint64) (*raftpb.Entry, error) {
	if !valid {
		return nil, storage.Corruptf(l.dir, "the %s entry %d is missing", which, index)
	}
	at, ok := decodeOldEntryKey(it.Key())
	if !ok {
		return nil, storage.Corruptf(l.dir, "key %x is of no known kind", it.Key())
	}
	if at != index {
		return nil, storage.Corruptf(l.dir, "the %s entry is %d and should be %d", which, at, index)
	}
	e, err := decodeOldEntry(at, it.Value())
	if err != nil {
		return nil, storage.Corruptf(l.dir, "entry %d: %w", at, err)
	}
	return e, nil
}

// visit calls f with entries [lo, hi) until it returns false.
func (l *oldLog) visit(lo, hi uint64, f func(*raftpb.Entry) bool) error {
	it, err := l.db.NewIter(&storage.IterOptions{LowerBound: oldEntryKey(lo), UpperBound: oldEntryKey(hi)})
	if err != nil {
		return err
	}
	ok := it.First()
	for i := lo; i < hi && err == nil; i++ {
		var e *raftpb.Entry
		if e, err = l.expect(it, ok, "next", i); err == nil && !f(e) {
			break
		}
		ok = it.Next()
	}
	if cerr := it.Close(); cerr != nil {
		return l.db.Explain("reading entries", cerr)
	}
	return err
}
