package raftlog

import (
	"errors"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

var (
	// ErrCompacted is returned for an index at or below the mark: the entry was cut off.
	ErrCompacted = errors.New("the entry was cut off the log")
	// ErrUnavailable is returned for an index above the last entry.
	ErrUnavailable = errors.New("the entry is not in the log yet")
)

// Options says how to open a log.
type Options struct {
	// Storage is passed on to storage.OpenLog.
	Storage storage.Options
	// Clock tells when to seal; nil is the real one.
	Clock clock.Clock
	// SealAfter is how long after the last synced append the log seals itself; 0 seals only at Close.
	SealAfter time.Duration
	// TailBytes bounds the memory for the newest entries; 0 is 8 MiB.
	TailBytes int
	// FlushBytes is how much must have been appended before a cut has the memtable flushed; 0 is 4 MiB.
	FlushBytes int
}

// Defaults of Options.
const (
	tailBytes  = 8 << 20
	flushBytes = 4 << 20
)

// Log is an open log. See the package for its guarantees and locks.
type Log struct {
	dir      string
	db       *storage.DB
	readOnly bool
	sealer   *sealer

	write     sync.Mutex // orders the batches; held over their sync
	unflushed unflushed  // guarded by write

	mu          sync.RWMutex // guards what follows
	initialised bool
	remains     bool // entries may be there although it is not initialised: an adoption broke off
	identity    storage.Identity
	hs          HardState
	mark        Mark
	last        uint64
	tail        tail
}

// Open opens the log in dir and creates it, uninitialised, if there is none.
//
// Besides the errors of storage.OpenLog it returns one that wraps storage.ErrCorrupt when a record is missing,
// unreadable or unknown, and storage.ErrNewerFormat when a newer release wrote it.
func Open(dir string, o Options) (*Log, error) {
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.TailBytes == 0 {
		o.TailBytes = tailBytes
	}
	if o.FlushBytes == 0 {
		o.FlushBytes = flushBytes
	}
	db, err := storage.OpenLog(dir, o.Storage)
	if err != nil {
		return nil, err
	}
	l := &Log{dir: dir, db: db, readOnly: o.Storage.ReadOnly, tail: tail{max: o.TailBytes}}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.unflushed = unflushed{least: o.FlushBytes, last: l.last}
	l.sealer = newSealer(db, o.Clock, o.SealAfter)
	return l, nil
}

// Close seals the log, so that every record is proven to have been synced, flushes it, so that the next Open has nothing
// to replay, and closes it. A log that was opened read-only is only closed.
func (l *Log) Close() error {
	l.write.Lock()
	defer l.write.Unlock()
	err := l.sealer.close()
	if !l.readOnly {
		if ferr := l.db.Flush(); err == nil {
			err = ferr
		}
	}
	if cerr := l.db.Close(); err == nil {
		err = cerr
	}
	return err
}

// Initialised tells whether Bootstrap has succeeded once. Before it only Bootstrap and Close may be called.
func (l *Log) Initialised() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.initialised
}

// Identity returns the stamps written at bootstrap.
func (l *Log) Identity() storage.Identity {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.identity
}

// HardState returns the one written last.
func (l *Log) HardState() HardState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.hs
}

// Mark returns the current mark.
func (l *Log) Mark() Mark {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mark
}

// FirstIndex returns the index of the first entry, or of the one that will be the first: that of the mark plus one.
func (l *Log) FirstIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mark.Index + 1
}

// LastIndex returns the index of the last entry, or that of the mark when there is none.
func (l *Log) LastIndex() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.last
}

// Err returns nil as long as the log works, and after its first failure an error that wraps storage.ErrFailed.
func (l *Log) Err() error { return l.db.Err() }

// Metrics returns numbers about the database.
func (l *Log) Metrics() storage.Metrics { return l.db.Metrics() }
