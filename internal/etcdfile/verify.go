package etcdfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Counts says how much of what Verify has read.
type Counts struct {
	Records, Versions, Leases, Members int
}

// Verify reads every record of the state: each has a key that the state may hold, each version is in history and each record of
// history has its version, each large value belongs to a version and is its own, and all others can be read. Errors wrap
// storage.ErrCorrupt and name the record. The database has been opened, so blocks whose checksum is wrong end it, too.
func (c *Content) Verify(ctx context.Context) (n Counts, err error) {
	data, large := newTally(), 0 // versions, and those with large values less the large values
	ctx, line := progress.Begin(ctx, "reading every record", 0)
	defer line.End()
	for ok := c.it.First(); ok; ok = c.it.Next() {
		if n.Records++; n.Records%contextEvery == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
		size, isLarge, err := c.verifyRecord(data)
		if err != nil {
			return n, err
		}
		if isLarge {
			large++
		} else if c.it.Key()[0] == storage.SpaceLarge {
			large--
		}
		line.Add(int64(size))
	}
	if err := c.explain(c.it.Error()); err != nil {
		return n, err
	}
	if large != 0 { // each of the versions has been found to have its own
		return n, c.explainLarge(ctx)
	}
	err = c.small(func(bucket string, _, _ []byte) error {
		switch bucket {
		case bucketLease:
			n.Leases++
		case bucketMembers:
			n.Members++
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	history := data.empty()
	err = c.history(ctx, func(r mvcc.HistoryRecord) error {
		history.add(r.Key, r.Rev, r.Kind == mvcc.EventDelete)
		return nil
	})
	if n.Versions = history.n; err == nil && !data.same(history) {
		err = c.explainTally(ctx, data.n, history.n)
	}
	return n, err
}

// verifyRecord checks the record that the iterator is at, counts it where it is data, and returns how many bytes it read of it, and whether
// it is a version whose value lies elsewhere.
func (c *Content) verifyRecord(data *tally) (size int, large bool, err error) {
	key := c.it.Key()
	if !storage.ValidKey(key) {
		return 0, false, storage.Corruptf(c.db.Dir(), "the key %x is of no known kind", key)
	}
	if key[0] != storage.SpaceData {
		return len(key), false, nil
	}
	kv, large, err := c.loader.Load(c.it)
	if err != nil {
		return 0, false, c.explain(err)
	}
	if err := verifyVersion(key, kv.Raw()); err != nil {
		return 0, false, storage.Corruptf(c.db.Dir(), "the version %x: %w", key, err)
	}
	user, main, sub, _ := storage.DecodeDataKey(key) // it is valid
	data.add(user, mvcc.Revision{Main: main, Sub: sub}, !kv.Exists())
	return len(key) + len(kv.Raw()), large, nil
}

// explainLarge names a large value that no version has.
func (c *Content) explainLarge(ctx context.Context) (err error) {
	it, err := c.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var key []byte
	lower, upper := storage.SpaceBounds(storage.SpaceLarge)
	n := 0
	for ok := c.it.SeekGE(lower); ok && storage.CompareKeys(c.it.Key(), upper) < 0; ok = c.it.Next() {
		if n++; n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		main, sub, _ := storage.DecodeRevKey(c.it.Key()) // it is valid
		v, err := c.it.ValueAndErr()
		if err != nil {
			return c.explain(err)
		}
		kv, err := mvcc.ParseKV(v)
		if err != nil || main == 0 {
			return storage.Corruptf(c.db.Dir(), "the large value %x is none (%v)", c.it.Key(), err)
		}
		key = storage.AppendDataKey(key[:0], kv.Key(), main, sub)
		large := it.SeekGE(key) && bytes.Equal(it.Key(), key)
		if large {
			_, large, err = c.loader.Load(it)
		}
		if err = errors.Join(err, it.Error()); err != nil {
			return c.explain(err)
		}
		if !large {
			return storage.Corruptf(c.db.Dir(), "no version has the large value of revision %d/%d", main, sub)
		}
	}
	if err := c.it.Error(); err != nil {
		return c.explain(err)
	}
	return storage.Corruptf(c.db.Dir(), "there are more large values than versions that have one")
}

// history calls fn for every record of history, in order.
func (c *Content) history(ctx context.Context, fn func(mvcc.HistoryRecord) error) error {
	lower, upper := storage.SpaceBounds(storage.SpaceHistory)
	n := 0
	for ok := c.it.SeekGE(lower); ok && storage.CompareKeys(c.it.Key(), upper) < 0; ok = c.it.Next() {
		if n++; n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v, err := c.it.ValueAndErr()
		if err != nil {
			return c.explain(err)
		}
		r, err := mvcc.DecodeHistory(c.it.Key(), v)
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return c.explain(c.it.Error())
}

// explainTally says what data and history differ in.
func (c *Content) explainTally(ctx context.Context, data, history int) (err error) {
	it, err := c.db.NewIter(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var key []byte
	err = c.history(ctx, func(r mvcc.HistoryRecord) error {
		key = storage.AppendDataKey(key[:0], r.Key, r.Rev.Main, r.Rev.Sub)
		if !it.SeekGE(key) || !bytes.Equal(it.Key(), key) {
			if err := it.Error(); err != nil {
				return c.explain(err)
			}
			return storage.Corruptf(c.db.Dir(), "no data for the history record %d/%d", r.Rev.Main, r.Rev.Sub)
		}
		v, err := it.ValueAndErr()
		if err == nil && (len(v) == 0) != (r.Kind == mvcc.EventDelete) {
			err = storage.Corruptf(c.db.Dir(), "the history record %d/%d is of another kind than its data", r.Rev.Main, r.Rev.Sub)
		}
		return c.explain(err)
	})
	if err == nil {
		err = storage.Corruptf(c.db.Dir(), "there are %d versions of keys and %d records of history", data, history)
	}
	return err
}

// verifyVersion checks that a version is of the key and the revision that it stands under.
func verifyVersion(key, value []byte) error {
	user, main, _, _ := storage.DecodeDataKey(key) // it is valid
	if len(value) == 0 {
		return nil // a tombstone
	}
	kv, err := mvcc.ParseKV(value)
	if err != nil {
		return err
	}
	if !bytes.Equal(kv.Key(), user) || kv.ModRevision() != main {
		return fmt.Errorf("its value is that of %q at %d", kv.Key(), kv.ModRevision())
	}
	return nil
}
