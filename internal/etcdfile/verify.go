package etcdfile

import (
	"bytes"
	"context"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Counts says how much of what Verify has read.
type Counts struct {
	Records, Versions, Leases, Members int
}

// Verify reads every record of the state: each has a key that the state may hold, each version is in history and each record of
// history has its version, and all others can be read. Errors wrap storage.ErrCorrupt and name the record. The database has
// been opened, so blocks whose checksum is wrong end it, too.
func (c *Content) Verify(ctx context.Context) (n Counts, err error) {
	data := 0
	for ok := c.it.First(); ok; ok = c.it.Next() {
		if n.Records++; n.Records%contextEvery == 0 && ctx.Err() != nil {
			return n, ctx.Err()
		}
		key := c.it.Key()
		if !storage.ValidKey(key) {
			return n, storage.Corruptf(c.db.Dir(), "the key %x is of no known kind", key)
		}
		if key[0] != storage.SpaceData {
			continue
		}
		data++
		value, err := c.it.ValueAndErr()
		if err != nil {
			return n, c.explain(err)
		}
		if err := verifyVersion(key, value); err != nil {
			return n, storage.Corruptf(c.db.Dir(), "the version %x: %w", key, err)
		}
	}
	if err := c.explain(c.it.Error()); err != nil {
		return n, err
	}
	err = c.walk(ctx, func(bucket string, _, _ []byte) error {
		switch bucket {
		case bucketKey:
			n.Versions++
		case bucketLease:
			n.Leases++
		case bucketMembers:
			n.Members++
		}
		return nil
	})
	if err == nil && n.Versions != data {
		err = storage.Corruptf(c.db.Dir(), "there are %d versions of keys and %d records of history", data, n.Versions)
	}
	return n, err
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
