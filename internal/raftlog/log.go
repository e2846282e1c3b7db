package raftlog

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// Storage says where the files are and who hears of a failure: FS, Logger, Fatal and ReadOnly count.
	Storage storage.Options
	// NoSync leaves syncing to the operating system (--unsafe-no-fsync): a power cut loses what was acknowledged.
	NoSync bool
	// Clock tells when to seal and how long a sync takes; nil is the real one.
	Clock clock.Clock
	// SealAfter is how long after the last synced append a log seals itself that is kept sealed; 0 seals only at Close.
	SealAfter time.Duration
	// TailBytes bounds the memory for the newest entries, of which it holds tailEntries at most; 0 is 8 MiB.
	TailBytes int
	// SegmentBytes is the size at which a segment is ended; 0 is 32 MiB.
	SegmentBytes int64

	room *room // of the newest segment; nil is that of the system
}

// Defaults of Options.
const (
	tailBytes    = 8 << 20
	segmentBytes = 32 << 20
)

// unsettledBytes bounds the memory for the newest entries where some of them are to be applied yet. A leader holds that many bytes that are
// not applied (consensus.uncommittedBytesMax).
const unsettledBytes = 64 << 20

// slowSync is how long a sync may take before it is told.
const slowSync = time.Second

// Log is an open log. See the package for its guarantees and locks.
type Log struct {
	dir          string
	fs           storage.FS
	logger       *slog.Logger
	clock        clock.Clock
	noSync       bool
	readOnly     bool
	segmentBytes int64
	room         *room
	lock         io.Closer
	failure      failure
	sealer       *sealer
	old          *oldLog       // a log in Pebble that is open for reading alone; then there are no segments
	written      atomic.Uint64 // bytes

	write    sync.Mutex // orders the records; held over their sync. It guards what follows
	writer   writer
	current  *segment // the newest; nil in a log that was never written to
	full     bool     // the next record begins another segment
	unsynced bool     // current has records that are not synced

	mu       sync.RWMutex // guards what follows
	state    state
	segments []*segment // from the oldest
	index    index
	tail     tail
}

// Close seals the log, so that every record is proven to have been synced, and closes it. A log that was opened
// read-only is only closed. Nothing may be read any more.
func (l *Log) Close() error {
	pending := l.sealer.end()
	l.write.Lock()
	defer l.write.Unlock()
	err := l.failure.check()
	if err == nil && (pending || l.unsynced) {
		err = l.putLocked(record{kind: kindSeal}, true)
	}
	if err == nil && !l.readOnly {
		l.giveBack(l.current)
	}
	if cerr := l.closeFiles(); err == nil {
		err = cerr
	}
	return err
}

// closeFiles gives the directory free.
func (l *Log) closeFiles() error {
	var errs []error
	for _, s := range l.segments {
		errs = append(errs, s.release())
	}
	if l.old != nil {
		errs = append(errs, l.old.db.Close())
	}
	return errors.Join(append(errs, l.lock.Close())...)
}

// Initialised tells whether Bootstrap has succeeded once. Before it only Bootstrap and Close may be called.
func (l *Log) Initialised() bool { return l.now().initialised }

// Identity returns the stamps written at bootstrap.
func (l *Log) Identity() storage.Identity { return l.now().identity }

// HardState returns the one written last.
func (l *Log) HardState() HardState { return l.now().hs }

// Mark returns the current mark.
func (l *Log) Mark() Mark { return l.now().mark }

// FirstIndex returns the index of the first entry, or of the one that will be the first: that of the mark plus one.
func (l *Log) FirstIndex() uint64 { return l.now().mark.Index + 1 }

// LastIndex returns the index of the last entry, or that of the mark when there is none.
func (l *Log) LastIndex() uint64 { return l.now().last }

func (l *Log) now() state {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.state
}

// Settled says that entries above index are to be applied: they stay in memory until another call says that they are, or there are too many
// of them. Without any call nothing is to be applied. It may be called from any goroutine.
func (l *Log) Settled(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail.settle(index)
}

// Err returns nil as long as the log works, and after its first failure an error that wraps storage.ErrFailed.
func (l *Log) Err() error { return l.failure.check() }

// Metrics are numbers about a log at one moment.
type Metrics struct {
	// DiskBytes is what all segments take, Segments their number.
	DiskBytes uint64
	Segments  int
	// MemoryBytes is what the newest entries and the places of the others take in memory.
	MemoryBytes uint64
	// WrittenBytes is how much was written since Open.
	WrittenBytes uint64
}

// Metrics returns the numbers of now.
func (l *Log) Metrics() Metrics {
	if l.old != nil {
		return Metrics{DiskBytes: l.old.db.Metrics().DiskBytes}
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	m := Metrics{
		Segments: len(l.segments), WrittenBytes: l.written.Load(),
		MemoryBytes: uint64(l.tail.bytes + cap(l.index.points)*pointMemory),
	}
	for _, s := range l.segments {
		m.DiskBytes += uint64(s.length.Load())
	}
	return m
}
