package storage

import (
	"time"

	"github.com/ashlar-kv/ashlar/internal/measure"
)

// Measures are what databases count while they work. Several, one after the other, may share them.
type Measures struct {
	// Commits are the times of Commit, Flushes those of writing what was in memory to a table.
	Commits, Flushes *measure.Histogram
	// Stalls counts how often writes had to wait for flushes or compactions.
	Stalls measure.Counter
}

// NewMeasures returns measures without an observation.
func NewMeasures() *Measures {
	bounds := measure.Durations(time.Millisecond, 14)
	return &Measures{Commits: measure.NewHistogram(bounds), Flushes: measure.NewHistogram(bounds)}
}

// Level is one level of a database's tables.
type Level struct {
	// Tables is their number, Bytes their size.
	Tables, Bytes int64
}

// Metrics are numbers about a database at one moment. Sizes are in bytes; counts are since Open.
type Metrics struct {
	// DiskBytes is what all files take, those to be removed or recycled included.
	DiskBytes uint64
	// LiveBytes is what the live tables take; what is only in memory is not in it.
	LiveBytes uint64
	// MemTableBytes is the size of all memtables.
	MemTableBytes uint64
	// KeptBytes is the size of memtables that are flushed and not given back: a reader sees them, or Pebble keeps them for the next one.
	KeptBytes uint64
	// FlushedBytes is how much was written from memory to tables since Open, CompactedBytes how much compactions wrote.
	FlushedBytes, CompactedBytes uint64
	// Levels are the levels of tables, from the newest. DebtBytes is what compactions have yet to rewrite to bring them in shape.
	Levels    []Level
	DebtBytes uint64
	// CacheBytes is what the block cache holds, CacheHits and CacheMisses how often it did or did not have a
	// block.
	CacheBytes int64
	// CacheMaxBytes is what the block cache may hold at present, memtables included: less than usual while ReserveCache has taken some of
	// it, more while it is wide (WidenCache).
	CacheMaxBytes int64
	// CacheReserved is what ReserveCache has taken of the cache.
	CacheReserved          int64
	CacheHits, CacheMisses int64
	// Flushes and Compactions are how many ended, CompactionsRunning how many run.
	Flushes, Compactions, CompactionsRunning int64
	// Tables is the number of live tables, ReadAmp how many places a read may have to look into.
	Tables  int64
	ReadAmp int
	// OpenIterators is the number of iterators that are not closed.
	OpenIterators int64
}

// Metrics returns the numbers of now.
func (db *DB) Metrics() Metrics {
	m := db.p.Metrics()
	total := m.Total()
	levels := make([]Level, len(m.Levels))
	var flushed, compacted uint64 // of the total, the first would have what the log was given in it
	for i := range m.Levels {
		flushed += m.Levels[i].TableBytesFlushed
		compacted += m.Levels[i].TableBytesCompacted
		levels[i] = Level{Tables: m.Levels[i].TablesCount, Bytes: m.Levels[i].TablesSize}
	}
	return Metrics{
		DiskBytes:          m.DiskSpaceUsage(),
		LiveBytes:          uint64(max(0, total.TablesSize)),
		MemTableBytes:      m.MemTable.Size,
		KeptBytes:          uint64(max(0, int64(m.MemTable.ZombieSize)-db.spare.withoutMemory())),
		FlushedBytes:       flushed,
		CompactedBytes:     compacted,
		Levels:             levels,
		DebtBytes:          m.Compact.EstimatedDebt,
		CacheBytes:         m.BlockCache.Size,
		CacheMaxBytes:      db.cache.most(),
		CacheReserved:      db.cache.reserved(),
		CacheHits:          m.BlockCache.Hits,
		CacheMisses:        m.BlockCache.Misses,
		Flushes:            m.Flush.Count,
		Compactions:        m.Compact.Count,
		CompactionsRunning: m.Compact.NumInProgress,
		Tables:             total.TablesCount,
		ReadAmp:            m.ReadAmp(),
		OpenIterators:      m.TableIters,
	}
}
