package storage

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The aliases cost nothing and keep Pebble's import here.
type (
	// FS is the filesystem everything is read from and written to.
	FS = vfs.FS
	// Batch collects writes that become visible and durable together. It belongs to one goroutine.
	Batch = pebble.Batch
	// Iterator walks keys in order. Key and value are valid until it moves. It must be closed before the DB.
	Iterator = pebble.Iterator
	// IterOptions bounds an Iterator. Bounds of a state must be keys of its schema (see SpaceBounds).
	IterOptions = pebble.IterOptions
)

// Options says how to open a database. The zero value opens it with defaults on the real filesystem.
type Options struct {
	// FS is the filesystem; nil is the real one.
	FS FS
	// Logger takes what Pebble reports; nil discards it.
	Logger *slog.Logger
	// Fatal is called once, from any goroutine and perhaps with locks held, when the database can not go on:
	// the error names directory and reason. The binary exits in it. It must not call the DB nor block. nil
	// panics.
	Fatal func(error)
	// CacheBytes bounds the block cache; 0 is 256 MiB for a state and 8 MiB for a log of an earlier release.
	CacheBytes int64
	// MemTableBytes is the size at which a memtable is flushed; 0 is 32 MiB for a state and 24 MiB for a log of an earlier release.
	MemTableBytes uint64
	// OnFlush is called after flushes have ended and GetDurable shows what they wrote; several that end
	// together may be told by one call. It runs in a goroutine of its own and may use the DB.
	OnFlush func()
	// Measures are added to by the database; nil is for nobody.
	Measures *Measures
	// ReadOnly opens without changing anything; the directory must hold a database.
	ReadOnly bool
	// Asked returns a number that changes with each request of clients: while it does, flushes and compactions rest in between (pacer). It is
	// called from any goroutine, from Open on, and must not call the DB. nil is for no rests.
	Asked func() uint64
	// Clock measures write stalls and rests; nil is the real one.
	Clock clock.Clock
	// StallMax is how long writes may wait for flushes and compactions before the database fails; 0 is
	// 30 seconds.
	StallMax time.Duration
}

// Defaults of Options.
const (
	stateCacheBytes    = 256 << 20
	stateMemTableBytes = 32 << 20
	logCacheBytes      = 8 << 20
	logMemTableBytes   = 24 << 20
	stallMax           = 30 * time.Second
)

// Format versions of Pebble are named here and never by "newest": an update of the library must not change
// the files of a member that might have to go back.
const (
	// logFormat tells a torn tail from corruption (docs/format/log.md).
	logFormat   = pebble.FormatWALSyncChunks
	stateFormat = pebble.FormatValueSeparation
)

func (o Options) withDefaults(cacheBytes int64, memTableBytes uint64) Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.Measures == nil {
		o.Measures = NewMeasures()
	}
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytes
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = memTableBytes
	}
	if o.StallMax == 0 {
		o.StallMax = stallMax
	}
	return o
}

// logOptions are for reading the log that an earlier release has kept in Pebble.
func logOptions(o Options) *pebble.Options {
	return &pebble.Options{
		FormatMajorVersion: logFormat,
		Comparer:           pebble.DefaultComparer,
		MemTableSize:       o.MemTableBytes,
		MaxOpenFiles:       256,
		ReadOnly:           true,
	}
}

// Sizes of the state's blocks, measured on 1M keys of 32 and 256 bytes: a point read that misses the cache costs a
// block, a scan looks for each one in the cache and likes large ones, and an index in small blocks stays in the cache.
const (
	blockBytes      = 16 << 10
	indexBlockBytes = 32 << 10
)

// tableBytes is the size of the state's tables. While one is written Pebble keeps the values of all versions that are not
// the newest of their keys in memory, in buffers of 32 KiB for blocks of 16, or of 20 where package pebblemem is used.
const tableBytes = 4 << 20

// newestTablesMax is how many tables may lie in the newest level before it is compacted however few of them lie on one another. Tables of large values
// lie on no others and stay there. Once there are as many, each flush makes a compaction due, and that takes small values, of which a memtable or
// two have gathered since the last one, as they lie deepest. A store of twice the default quota has fewer.
const newestTablesMax = 1000

// stopMemTables is how many memtables there may be: writes stop when one more is needed.
const stopMemTables = 4

// uncompressedLevels is how many levels of the state, from the newest, are written without compression: they are
// rewritten soon, and most reads of what was just written go there.
const uncompressedLevels = 5

// tableCompression is for the other levels: the fastest algorithm of the processor's kind, left out where the blocks of a table do not become smaller by
// it, as one in ten that is tried tells. It keeps the name of Pebble's own, which refuses options with one that it does not know; what a block was
// compressed with is written behind it.
var tableCompression = func() *sstable.CompressionProfile {
	p := *sstable.FastestCompression
	p.OtherBlocks = sstable.NoCompression.OtherBlocks
	p.AdaptiveReductionCutoffPercent = p.MinReductionPercent
	return &p
}()

// compactionsMax is how many compactions may run beside each other: they do not rest when they are behind, and as many of them as there are
// processors would let a request wait for one at each of its steps.
func compactionsMax() int { return max(1, min(4, runtime.GOMAXPROCS(0)/2)) }

// stateOptions suits point reads and scans of versioned keys under a steady load of writes. Writes stop only when
// compactions are far behind: a short stop is worse for a member than a read that looks into more tables. The newest
// level is compacted once four flushed memtables lie in it (Pebble counts half of the threshold): each compaction of it
// writes the level below anew, and each memtable more costs a point read of a key written before 0.8 µs.
func stateOptions(o Options) *pebble.Options {
	p := &pebble.Options{
		FormatMajorVersion:          stateFormat,
		Comparer:                    &cockroachkvs.Comparer,
		KeySchema:                   cockroachkvs.KeySchema.Name,
		KeySchemas:                  sstable.MakeKeySchemas(&cockroachkvs.KeySchema),
		DisableWAL:                  true,
		MemTableSize:                o.MemTableBytes,
		MemTableStopWritesThreshold: stopMemTables,
		L0CompactionThreshold:       8,
		L0CompactionFileThreshold:   newestTablesMax,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                4096,
		CompactionConcurrencyRange:  func() (int, int) { return 1, compactionsMax() },
		ReadOnly:                    o.ReadOnly,
	}
	for i := range p.TargetFileSizes {
		p.TargetFileSizes[i] = tableBytes
	}
	for i := range p.Levels {
		l := &p.Levels[i]
		l.BlockSize = blockBytes
		l.IndexBlockSize = indexBlockBytes
		l.FilterPolicy = bloom.FilterPolicy(10)
		l.FilterType = pebble.TableFilter
		l.Compression = func() *sstable.CompressionProfile { return tableCompression }
		if i < uncompressedLevels {
			l.Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
		}
	}
	return p
}
