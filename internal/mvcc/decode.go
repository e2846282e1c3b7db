package mvcc

import (
	"context"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// HistoryRecord is a history record, for readers that walk a database by themselves.
type HistoryRecord struct {
	// Rev is the change's revision and Kind says what it was.
	Rev  Revision
	Kind EventKind
	// Key is the key that changed; it aliases the record.
	Key []byte
}

// DecodeHistory decodes a history record (docs/format/state.md). It wraps storage.ErrCorrupt.
func DecodeHistory(key, value []byte) (HistoryRecord, error) {
	main, sub, ok := storage.DecodeRevKey(key)
	if !ok {
		return HistoryRecord{}, fmt.Errorf("%w: history key %x", storage.ErrCorrupt, key)
	}
	kind, _, _, user, err := parseHistory(value)
	if err != nil {
		return HistoryRecord{}, err
	}
	return HistoryRecord{Rev: Revision{main, sub}, Kind: kind, Key: user}, nil
}

// DecodeApplied decodes the meta record applied: the last log entry whose effect a database has, and its revision.
func DecodeApplied(value []byte) (index, term uint64, revision int64, err error) {
	var n [3]uint64
	err = decodeNumbers(value, n[:])
	return n[0], n[1], int64(n[2]), err
}

// DecodeCompaction decodes the meta records compactScheduled and compactDone; nil stands for one that is absent. It
// returns the revision compacted to, -1 for none, and up to which whole revision the space was given back.
func DecodeCompaction(scheduled, done []byte) (target, finished int64, err error) {
	target, finished = neverCompacted, neverCompacted
	if scheduled != nil {
		var n [1]uint64
		if err := decodeNumbers(scheduled, n[:]); err != nil {
			return 0, 0, err
		}
		target = int64(n[0])
	}
	if done != nil {
		var n [2]uint64
		if err := decodeNumbers(done, n[:]); err != nil {
			return 0, 0, err
		}
		at := Revision{int64(n[0]), uint32(n[1])}
		if finished = at.Main; at.Less(wholeRevision(at.Main)) {
			finished--
		}
	}
	return target, finished, nil
}

// Hash returns the hash that HashKV gives at the view's revision with the view's compact revision, never one that a
// compaction kept: so it follows from what the store holds alone.
func (v *View) Hash(ctx context.Context) (uint32, error) { return v.hash(ctx) }
