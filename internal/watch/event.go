package watch

import (
	"encoding/binary"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Tags of the wire format: events of a WatchResponse, then the fields of mvccpb.Event.
const (
	tagEvents  = 11<<3 | 2
	tagType    = 1 << 3
	tagKV      = 2<<3 | 2
	tagPrevKV  = 3<<3 | 2
	tagKey     = 1<<3 | 2 // of mvccpb.KeyValue, as the next
	tagModRev  = 3 << 3
	typeDelete = 1
)

// encoded is a change as clients get it. It is immutable once a watcher has it; all watchers share it.
type encoded struct {
	rev int64
	// plain is the event without the version before, withPrev the one with it; whichever nobody wants is nil. Where
	// there is no version before, they are the same.
	plain, withPrev []byte
}

// of returns the encoding for watchers with or without PrevKV.
func (e *encoded) of(prev bool) []byte {
	if prev {
		return e.withPrev
	}
	return e.plain
}

// event is a change in the ring. It is encoded when the first watcher wants it. The hub's lock guards it.
type event struct {
	rev  int64
	out  *encoded // nil until then; apart, so that who keeps it keeps no change beside this one
	kind mvcc.EventKind
	sub  uint32
	prev mvcc.Revision // the live version replaced
	key  []byte
	raw  []byte // of a put
}

// size is what the event costs in memory, about.
func (e *event) size() int {
	n := eventOverhead + len(e.key) + len(e.raw)
	if e.out != nil {
		n += len(e.out.withPrev)
	}
	return n
}

// eventOverhead is the size of an event without its bytes, with its place in the ring and in pending lists.
const eventOverhead = 192

// appendEvent appends the encoding of a change to dst: kv is the encoded KeyValue that was put, of a delete the one of
// the tombstone; prev is the encoded KeyValue before, empty when there is none or nobody wants it.
func appendEvent(dst []byte, kind mvcc.EventKind, kv, prev []byte) []byte {
	n := 1 + uvarintSize(len(kv)) + len(kv)
	if kind == mvcc.EventDelete {
		n += 2
	}
	n += prevSize(prev)
	dst = binary.AppendUvarint(append(dst, tagEvents), uint64(n))
	if kind == mvcc.EventDelete {
		dst = append(dst, tagType, typeDelete)
	}
	dst = binary.AppendUvarint(append(dst, tagKV), uint64(len(kv)))
	dst = append(dst, kv...)
	if len(prev) > 0 {
		dst = binary.AppendUvarint(append(dst, tagPrevKV), uint64(len(prev)))
		dst = append(dst, prev...)
	}
	return dst
}

// prevSize is how many bytes the version before takes at the end of an event.
func prevSize(prev []byte) int {
	if len(prev) == 0 {
		return 0
	}
	return 1 + uvarintSize(len(prev)) + len(prev)
}

// eventSize bounds the size of what appendEvent appends.
func eventSize(kv, prev int) int { return 4*binary.MaxVarintLen32 + kv + prev }

// appendTombstone appends the KeyValue of a deleted key: key and revision.
func appendTombstone(dst, key []byte, rev int64) []byte {
	dst = binary.AppendUvarint(append(dst, tagKey), uint64(len(key)))
	dst = append(dst, key...)
	return binary.AppendUvarint(append(dst, tagModRev), uint64(rev))
}

func uvarintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}
