package etcdfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Bounds of what is read at a time, unless a test has others.
const (
	chunkRecordsMax = 32 << 10
	chunkBytesMax   = 8 << 20
)

// errFull is returned when the values of a chunk are more than it may hold.
var errFull = errors.New("the chunk is full")

// change is a record of history and, once loaded, its value.
type change struct {
	rev       mvcc.Revision
	tombstone bool
	key       []byte // aliases the chunk's keys
	from, to  int    // the value, in the chunk's values
}

// chunk is a run of history records that are looked up together.
type chunk struct {
	c       *Content
	changes []change
	keys    []byte
	values  []byte
	order   []int // the changes in order of their keys
	seek    []byte
	fit     int           // how many changes are likely to fit
	next    mvcc.Revision // where history goes on
	more    bool
}

// versions gives the bucket key to put, in order of revision.
func (c *Content) versions(ctx context.Context, put sink) error {
	k := &chunk{c: c, more: true, fit: c.recordsMax}
	var name, value []byte
	for k.more {
		if err := k.collect(); err != nil {
			return err
		}
		for from := 0; from < len(k.changes); {
			if err := ctx.Err(); err != nil {
				return err
			}
			n, err := k.load(from)
			if err != nil {
				return err
			}
			for _, x := range k.changes[from : from+n] {
				name = appendRevision(name[:0], Revision{Main: x.rev.Main, Sub: int64(x.rev.Sub), Tombstone: x.tombstone})
				v := k.values[x.from:x.to]
				if x.tombstone {
					value = appendKeyAlone(value[:0], x.key)
					v = value
				}
				if err := put(bucketKey, name, v); err != nil {
					return err
				}
			}
			from += n
		}
	}
	return nil
}

// collect reads the next run of history.
func (k *chunk) collect() error {
	k.changes, k.keys = k.changes[:0], k.keys[:0]
	it := k.c.it
	k.seek = storage.AppendRevKey(k.seek[:0], storage.SpaceHistory, k.next.Main, k.next.Sub)
	_, upper := storage.SpaceBounds(storage.SpaceHistory)
	k.more = false
	for ok := it.SeekGE(k.seek); ok && storage.CompareKeys(it.Key(), upper) < 0; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return k.c.explain(err)
		}
		r, err := mvcc.DecodeHistory(it.Key(), v)
		if err != nil {
			return err
		}
		if len(k.changes) == k.c.recordsMax || len(k.changes) > 0 && len(k.keys)+len(r.Key) > k.c.bytesMax {
			k.next, k.more = r.Rev, true
			break
		}
		at := len(k.keys)
		k.keys = append(k.keys, r.Key...)
		k.changes = append(k.changes, change{rev: r.Rev, tombstone: r.Kind == mvcc.EventDelete, from: at, to: len(k.keys)})
	}
	for i := range k.changes { // keys stays where it is from now on
		x := &k.changes[i]
		x.key, x.from, x.to = k.keys[x.from:x.to:x.to], 0, 0
	}
	return k.c.explain(it.Error())
}

// load fetches the values of the changes from one on, and says of how many: fewer than there are when the values would
// be too large.
func (k *chunk) load(from int) (n int, err error) {
	for n = min(k.fit, len(k.changes)-from); ; n = max(1, n/2) {
		err := k.fetch(from, n)
		if err == nil {
			// As many as fill three quarters if the next are like these: what is too much is fetched again.
			k.fit = max(1, min(k.c.recordsMax, n*(k.c.bytesMax/4*3)/max(1, len(k.values))))
			return n, nil
		}
		if !errors.Is(err, errFull) {
			return 0, err
		}
	}
}

// fetch fetches the values of n changes, in order of the keys.
func (k *chunk) fetch(from, n int) error {
	k.order, k.values = k.order[:0], k.values[:0]
	for i := from; i < from+n; i++ {
		if !k.changes[i].tombstone {
			k.order = append(k.order, i)
		}
	}
	slices.SortFunc(k.order, func(a, b int) int {
		// The versions of a key stand from the newest to the oldest.
		if c := bytes.Compare(k.changes[a].key, k.changes[b].key); c != 0 {
			return c
		}
		return b - a
	})
	for _, i := range k.order {
		x := &k.changes[i]
		k.seek = storage.AppendDataKey(k.seek[:0], x.key, x.rev.Main, x.rev.Sub)
		v, found, err := k.c.at(k.seek)
		if err != nil {
			return err
		}
		if !found || len(v) == 0 {
			return fmt.Errorf("%w: no data for the history record %d/%d", storage.ErrCorrupt, x.rev.Main, x.rev.Sub)
		}
		if n > 1 && len(k.values)+len(v) > k.c.bytesMax {
			return errFull
		}
		x.from = len(k.values)
		k.values = append(k.values, v...)
		x.to = len(k.values)
	}
	return nil
}

// appendKeyAlone appends a KeyValue that has a key only: the value of a tombstone.
func appendKeyAlone(dst, key []byte) []byte {
	if len(key) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, fieldFirst, protowire.BytesType), key)
}
