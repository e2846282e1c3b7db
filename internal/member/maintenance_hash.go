package member

import (
	"context"
	"errors"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// Hash hashes the whole logical state as of now: the key-values as HashKV does, and the leases, alarms, members and
// versions. It is the same on every member that has applied the same entries, however its files lie on the disk and
// however far its compaction has come. The revision is the one hashed.
func (m *Member) Hash(ctx context.Context) (hash uint32, revision int64, err error) {
	for {
		hash, revision, err = m.hashOnce(ctx)
		// The two views are opened one after the other: the revision of the first may have been compacted away by
		// then, or not be published yet.
		if !errors.Is(err, mvcc.ErrCompacted) && !errors.Is(err, mvcc.ErrFutureRevision) || ctx.Err() != nil {
			return hash, revision, err
		}
	}
}

func (m *Member) hashOnce(ctx context.Context) (hash uint32, revision int64, err error) {
	err = m.held(func(g *generation) (err error) {
		c, err := etcdfile.Read(g.db)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close()) }()
		revision = c.Revision
		v, err := g.store.View(revision)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, v.Close()) }()
		keys, err := v.Hash(ctx)
		if err != nil {
			return err
		}
		hash, err = c.Hash(keys)
		return err
	})
	return hash, revision, err
}
