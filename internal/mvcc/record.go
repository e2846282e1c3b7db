package mvcc

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Lengths of the parts of keys (docs/format/state.md).
const (
	dataKeyLen = 1 + 1 + 8 + 1 // without the user's key and the sub-revision
	subLen     = 4
	revKeyLen  = 1 + 8 + 4 + 1
)

// writeData puts a version into the batch; raw is the whole KeyValue, nil for a tombstone. One with a large value lies in a record
// of its own, and data has a stub of it: both are in the batch, so there is never one without the other.
func writeData(b *storage.Batch, key []byte, rev Revision, raw []byte) error {
	n := dataKeyLen + len(key)
	if rev.Sub != 0 {
		n += subLen
	}
	s, large := stubOf(key, rev, raw)
	if !large {
		op := b.SetDeferred(n, len(raw))
		storage.AppendDataKey(op.Key[:0], key, rev.Main, rev.Sub)
		copy(op.Value, raw)
		return op.Finish()
	}
	op := b.SetDeferred(n, s.encodedSize())
	storage.AppendDataKey(op.Key[:0], key, rev.Main, rev.Sub)
	s.append(op.Value[:0])
	if err := op.Finish(); err != nil {
		return err
	}
	op = b.SetDeferred(revKeyLen, len(raw))
	storage.AppendRevKey(op.Key[:0], storage.SpaceLarge, rev.Main, rev.Sub)
	copy(op.Value, raw)
	return op.Finish()
}

// writeHistory puts a history record into the batch. prevSize is the length of the previous version's KeyValue.
func writeHistory(b *storage.Batch, kind EventKind, key []byte, rev, prev Revision, prevSize int) error {
	n := 1 + uvarintSize(uint64(prev.Main)) + uvarintSize(uint64(prev.Sub)) + uvarintSize(uint64(prevSize)) + len(key)
	op := b.SetDeferred(revKeyLen, n)
	storage.AppendRevKey(op.Key[:0], storage.SpaceHistory, rev.Main, rev.Sub)
	v := append(op.Value[:0], byte(kind))
	v = binary.AppendUvarint(v, uint64(prev.Main))
	v = binary.AppendUvarint(v, uint64(prev.Sub))
	v = binary.AppendUvarint(v, uint64(prevSize))
	copy(op.Value[len(v):], key)
	return op.Finish()
}

// writeCountChange puts a create or a delete into the batch.
func writeCountChange(b *storage.Batch, kind EventKind, key []byte, rev Revision) error {
	op := b.SetDeferred(revKeyLen, 1+len(key))
	storage.AppendRevKey(op.Key[:0], storage.SpaceCounts, rev.Main, rev.Sub)
	op.Value[0] = countCreate
	if kind == EventDelete {
		op.Value[0] = countDelete
	}
	copy(op.Value[1:], key)
	return op.Finish()
}

// parseHistory decodes the value of a history record; key aliases it.
func parseHistory(v []byte) (kind EventKind, prev Revision, prevSize int, key []byte, err error) {
	bad := func(part string) error {
		return fmt.Errorf("%w: %s of a history record", storage.ErrCorrupt, part)
	}
	if len(v) == 0 || v[0] > byte(EventDelete) {
		return 0, Revision{}, 0, nil, bad("kind")
	}
	kind, v = EventKind(v[0]), v[1:]
	main, n := binary.Uvarint(v)
	if n <= 0 || main > maxRevision {
		return 0, Revision{}, 0, nil, bad("previous main revision")
	}
	v = v[n:]
	sub, n := binary.Uvarint(v)
	if n <= 0 || sub > maxSub {
		return 0, Revision{}, 0, nil, bad("previous sub-revision")
	}
	v = v[n:]
	size, n := binary.Uvarint(v)
	if n <= 0 || size > math.MaxInt32 {
		return 0, Revision{}, 0, nil, bad("previous size")
	}
	return kind, Revision{int64(main), uint32(sub)}, int(size), v[n:], nil
}
