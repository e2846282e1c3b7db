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
	begin := m.cfg.Clock.Now()
	defer func() { m.measures.Hashes.Took(m.cfg.Clock.Now().Sub(begin)) }()
	for {
		hash, revision, err = m.hashOnce(ctx)
		// The two views are opened one after the other: the revision of the first may have been compacted away by
		// then, or not be published yet, or a compaction lies between them.
		again := errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRevision) || errors.Is(err, errApart)
		if !again || ctx.Err() != nil {
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
		hash, err = hashBoth(ctx, c, v)
		return err
	})
	return hash, revision, err
}

// errApart says that two views of the state are not of one instant.
var errApart = errors.New("member: a compaction lies between two views of the state")

// hashBoth hashes everything: the key-values as v has them and the rest as c has it. Of one revision the key-values' hash
// depends on the compact revision, too.
func hashBoth(ctx context.Context, c *etcdfile.Content, v *mvcc.View) (uint32, error) {
	compacted, err := c.Compacted()
	if err != nil {
		return 0, err
	}
	if compacted != v.CompactRevision() {
		return 0, errApart
	}
	keys, err := v.Hash(ctx)
	if err != nil {
		return 0, err
	}
	return c.Hash(keys)
}
