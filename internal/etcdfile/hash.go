package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// newestVersion is where a key's newest version stands, and whether the key is live there.
type newestVersion struct {
	at   Revision
	live bool
}

// HashKV computes what etcd's HashKV answers for the file's content at a revision, 0 for the newest, with the compact
// revision and the revision hashed. Its memory grows with the number of keys. Returns mvcc.ErrCompacted and
// mvcc.ErrFutureRevision as a store does.
func (f *File) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	meta, err := f.Meta()
	if err != nil {
		return 0, 0, 0, err
	}
	compact := meta.Compacted()
	current, err := f.Revision()
	switch {
	case err != nil:
		return 0, 0, 0, err
	case rev < 0: // the hash of nothing
		return crc32.Checksum([]byte(bucketKey), castagnoli), compact, rev, nil
	case rev == 0:
		rev = current
	case rev > current:
		return 0, 0, 0, fmt.Errorf("revision %d, current %d: %w", rev, current, mvcc.ErrFutureRevision)
	}
	if rev < compact {
		return 0, 0, 0, fmt.Errorf("revision %d, compacted to %d: %w", rev, compact, mvcc.ErrCompacted)
	}
	ctx, line := progress.Begin(ctx, "hashing", 0)
	defer line.End()
	keep, err := f.kept(ctx, rev, compact)
	if err != nil {
		return 0, 0, 0, err
	}
	var name []byte
	hash = crc32.Checksum([]byte(bucketKey), castagnoli)
	err = f.until(ctx, rev, func(at Revision, kv mvcc.KV) error {
		if at.Main <= compact && keep[string(kv.Key())] != (newestVersion{at, true}) {
			return nil
		}
		name = appendRevision(name[:0], at)
		hash = crc32.Update(crc32.Update(hash, castagnoli, name), castagnoli, kv.Raw())
		return nil
	})
	return hash, compact, rev, err
}

// kept returns each key's version that counts although it is at or below the compact revision, if it is: the newest one
// at the revision hashed. When no key is live there, only what compaction removes is left out.
func (f *File) kept(ctx context.Context, rev, compact int64) (map[string]newestVersion, error) {
	if compact < 0 {
		return nil, nil
	}
	newest, live, err := f.newest(ctx, rev)
	if err == nil && live == 0 {
		newest, _, err = f.newest(ctx, compact)
	}
	return newest, err
}

// newest returns the newest version of each key at a revision, and how many are live there.
func (f *File) newest(ctx context.Context, rev int64) (map[string]newestVersion, int, error) {
	newest, live := make(map[string]newestVersion), 0
	err := f.until(ctx, rev, func(at Revision, kv mvcc.KV) error {
		key := string(kv.Key())
		if newest[key].live {
			live--
		}
		if !at.Tombstone {
			live++
		}
		newest[key] = newestVersion{at, !at.Tombstone}
		return nil
	})
	return newest, live, err
}

// errEnough ends a walk early.
var errEnough = errors.New("enough")

// until walks the versions up to a revision.
func (f *File) until(ctx context.Context, rev int64, fn func(Revision, mvcc.KV) error) error {
	err := f.Versions(ctx, 0, func(at Revision, kv mvcc.KV) error {
		if at.Main > rev {
			return errEnough
		}
		return fn(at, kv)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Revision returns the store's revision in the file, 1 for an empty one.
func (f *File) Revision() (int64, error) {
	meta, err := f.Meta()
	if err != nil {
		return 0, err
	}
	rev := max(1, meta.Compacted())
	err = f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketKey))
		if b == nil {
			return nil
		}
		k, _ := b.Cursor().Last()
		if k == nil {
			return nil
		}
		at, err := decodeRevision(k)
		rev = max(rev, at.Main)
		return err
	})
	return rev, err
}
