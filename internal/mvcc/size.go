package mvcc

import (
	"fmt"
	"sync/atomic"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// versionOverhead is what a version is counted for besides its key, twice, and its KeyValue (docs/format/state.md).
const versionOverhead = 64

// versionBytes is what a version counts in SizeInUse; size is the length of its KeyValue, wherever that lies, 0 for a tombstone.
func versionBytes(key []byte, size int) int64 {
	return versionOverhead + 2*int64(len(key)) + int64(size)
}

// VersionBytes returns by how much a put of a key and a value of these lengths makes SizeInUse grow, at most.
func VersionBytes(key, value int) int64 {
	const numbers = 64 // the KeyValue's tags, lengths and numbers
	return versionOverhead + numbers + 3*int64(key) + int64(value)
}

// freed is what compaction has removed. CompactStep alone changes it, one slice at a time.
type freed struct {
	bytes atomic.Int64
	// to is the last history record whose previous version was subtracted. It only grows: slices may look at a
	// record again, but what it frees counts once.
	to Revision
}

// SizeInUse returns the bytes of all versions, live ones and history: what was written minus what compaction has
// removed. It says nothing about files. It is exact at any time, but counts what a compaction has not come to yet.
func (s *Store) SizeInUse() int64 { return s.now.Load().written - s.freed.bytes.Load() }

func (s *Store) loadSize(p *published) error {
	_, err := s.db.Get(metaKey(metaSizeWritten), func(val []byte) error {
		var n [1]uint64
		err := decodeNumbers(val, n[:])
		p.written = int64(n[0])
		return err
	})
	if err != nil {
		return fmt.Errorf("reading how much was written: %w", err)
	}
	_, err = s.db.Get(metaKey(metaSizeFreed), func(val []byte) error {
		var n [3]uint64
		err := decodeNumbers(val, n[:])
		s.freed.bytes.Store(int64(n[0]))
		s.freed.to = Revision{int64(n[1]), uint32(n[2])}
		return err
	})
	if err != nil {
		return fmt.Errorf("reading how much was freed: %w", err)
	}
	return nil
}

// slice begins to count what one slice of compaction removes.
func (f *freed) slice() freedSlice { return freedSlice{bytes: f.bytes.Load(), to: f.to} }

// done takes in what a slice removed. REQUIRES: its batch was committed.
func (f *freed) done(s freedSlice) {
	f.to = s.to
	f.bytes.Store(s.bytes)
}

// freedSlice is freed as it will be after a slice.
type freedSlice struct {
	bytes int64
	to    Revision
}

// previous counts the version before the one of a history record, if there is one; false when there is none, or an earlier look at
// the record counted it. The records come in order.
func (s *freedSlice) previous(h *historyWalk) bool {
	if !s.to.Less(h.rev) {
		return false
	}
	s.to = h.rev
	if h.prev.IsZero() {
		return false
	}
	s.bytes += versionBytes(h.key, h.prevSize)
	return true
}

// tombstone counts the version of a history record that is removed with it.
func (s *freedSlice) tombstone(h *historyWalk) { s.bytes += versionBytes(h.key, 0) }

// write puts the numbers into the batch of the slice.
func (s *freedSlice) write(b *storage.Batch) error {
	return b.Set(metaKey(metaSizeFreed), encodeNumbers(uint64(s.bytes), uint64(s.to.Main), uint64(s.to.Sub)), nil)
}
