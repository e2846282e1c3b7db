package mvcc

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/measure"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Names of the meta records that belong to this package.
const (
	metaApplied          = "applied"
	metaCompactScheduled = "compactScheduled"
	metaCompactDone      = "compactDone"
	metaSizeWritten      = "sizeWritten"
	metaSizeFreed        = "sizeFreed"
)

// neverCompacted is the compact revision of a store that was never compacted.
const neverCompacted = -1

// Store is the key-value part of one state. All methods may be called from any goroutine, except that one
// goroutine at a time holds a Writer. It owns no files: closing the database is its owner's work, after every View
// was closed.
type Store struct {
	db  *storage.DB
	now atomic.Pointer[published]

	// compacting serialises CompactStep, which alone sets compactDone, and guards compactTarget, the target of the
	// slice before.
	compacting    sync.Mutex
	compactTarget int64
	compactDone   atomic.Pointer[Revision]
	freed         freed

	// Since Open: versions deleted by compactions, changes that those have looked at, and changes committed.
	removed, compacted, committed measure.Counter

	kept    kept
	pages   pageCache
	extents memory[span, extent]
	heads   heads // of the Writer
	spare   spare // of the Writer
	newest  *newest
	idle    idle
	gate    gate

	besides atomic.Int32 // goroutines that measure beside another
}

// published is what readers see of the store beside the database. It is immutable.
type published struct {
	revision    int64
	compact     int64
	written     int64 // bytes of all versions ever written; see size.go
	index, term uint64
	runs        *runList
}

// Open reads what the store keeps in memory from db. A database that has data but no runs gets them now, by one
// scan of all keys.
func Open(db *storage.DB) (*Store, error) { return open(db, defaultRunSizes) }

func open(db *storage.DB, sizes runSizes) (*Store, error) {
	s := &Store{db: db, compactTarget: neverCompacted, newest: new(newest)}
	p := &published{revision: 1, compact: neverCompacted}
	if err := s.loadApplied(p); err != nil {
		return nil, err
	}
	if err := s.loadCompact(p); err != nil {
		return nil, err
	}
	if err := s.loadSize(p); err != nil {
		return nil, err
	}
	runs, err := loadRuns(db, sizes)
	if err != nil {
		return nil, fmt.Errorf("loading the runs of keys: %w", err)
	}
	p.runs = runs
	s.now.Store(p)
	return s, nil
}

func (s *Store) loadApplied(p *published) error {
	_, err := s.db.Get(metaKey(metaApplied), func(val []byte) error {
		var n [3]uint64
		if err := decodeNumbers(val, n[:]); err != nil {
			return err
		}
		p.index, p.term, p.revision = n[0], n[1], int64(n[2])
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the applied index: %w", err)
	}
	return nil
}

func (s *Store) loadCompact(p *published) error {
	_, err := s.db.Get(metaKey(metaCompactScheduled), func(val []byte) error {
		var n [1]uint64
		err := decodeNumbers(val, n[:])
		p.compact = int64(n[0])
		return err
	})
	if err != nil {
		return fmt.Errorf("reading the compact revision: %w", err)
	}
	done := wholeRevision(neverCompacted)
	_, err = s.db.Get(metaKey(metaCompactDone), func(val []byte) error {
		var n [2]uint64
		err := decodeNumbers(val, n[:])
		done = Revision{int64(n[0]), uint32(n[1])}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading how far compaction has come: %w", err)
	}
	s.compactDone.Store(&done)
	return nil
}

// Revision returns the current revision, 1 in an empty store.
func (s *Store) Revision() int64 { return s.now.Load().revision }

// CompactRevision returns the revision compacted to, -1 if there was no compaction yet. Revisions below it
// cannot be read.
func (s *Store) CompactRevision() int64 { return s.now.Load().compact }

// Applied returns index and term of the last log entry whose effect is in the store.
func (s *Store) Applied() (index, term uint64) {
	p := s.now.Load()
	return p.index, p.term
}

func metaKey(name string) []byte {
	return storage.AppendPlainKey(nil, storage.SpaceMeta, []byte(name))
}

// decodeNumbers decodes exactly len(n) uvarints that fill b.
func decodeNumbers(b []byte, n []uint64) error {
	for i := range n {
		v, w := binary.Uvarint(b)
		if w <= 0 {
			return fmt.Errorf("%w: number %d of a meta record", storage.ErrCorrupt, i+1)
		}
		n[i], b = v, b[w:]
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: %d bytes behind a meta record", storage.ErrCorrupt, len(b))
	}
	return nil
}

func encodeNumbers(n ...uint64) (b []byte) {
	for _, v := range n {
		b = binary.AppendUvarint(b, v)
	}
	return b
}
