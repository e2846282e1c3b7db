package member

import (
	"context"
	"errors"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// hashesMax is how many hashes are made at once for clients, and as many again for other members: each walks through all keys, and
// takes up to 48 MiB. Who asks for one more waits for his turn.
const hashesMax = 2

// hashing bounds the hashes that are made at once, by one element for each. Clients cannot keep other members' checks from theirs;
// this member's own check, of which there is one at a time, waits for nobody.
type hashing struct {
	clients, members chan struct{}
}

func (h *hashing) init() {
	h.clients, h.members = make(chan struct{}, hashesMax), make(chan struct{}, hashesMax)
}

// HashKV hashes the key-values up to rev, 0 or less for the newest, as etcd does, and
// says at which revision and compacted to which one. It waits while too many others are made for clients, and stops when ctx ends.
func (m *Member) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	h, err := m.hashFor(ctx, rev, m.maintenance.hashing.clients)
	return h.Hash, h.Compact, h.Revision, err
}

// hashFor is HashKV for those whose hashes have these places. What a compaction has left needs none.
func (m *Member) hashFor(ctx context.Context, rev int64, places chan struct{}) (h mvcc.Hash, err error) {
	kept := false
	err = m.held(func(g *generation) error {
		h, kept = g.store.KeptHash(rev)
		return nil
	})
	if err != nil || kept {
		return h, err
	}
	err = m.maintenance.inTurn(ctx, places, func() error {
		h, err = m.hashHere(ctx, rev)
		return err
	})
	return h, err
}

// hashHere is HashKV without waiting for a turn. It ends when the member stops.
func (m *Member) hashHere(ctx context.Context, rev int64) (h mvcc.Hash, err error) {
	begin := m.cfg.Clock.Now()
	defer func() { m.measures.RevisionHashes.Took(m.cfg.Clock.Now().Sub(begin)) }()
	err = m.maintenance.walk(ctx, func(ctx context.Context, g *generation) (err error) {
		h.Hash, h.Compact, h.Revision, err = g.store.HashKV(ctx, rev)
		return err
	})
	return h, err
}

// inTurn calls f once there is a place.
func (x *maintenance) inTurn(ctx context.Context, places chan struct{}, f func() error) error {
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-x.ctx.Done():
		return ErrStopped
	}
	defer func() { <-places }()
	return f()
}

// walk calls f with the present state and a context that ends also when the member stops, which Stop waits for.
func (x *maintenance) walk(ctx context.Context, f func(context.Context, *generation) error) error {
	ctx, end, err := x.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	err = x.m.held(func(g *generation) error { return f(ctx, g) })
	if err != nil && x.ctx.Err() != nil {
		err = ErrStopped
	}
	return err
}

// Hash hashes the whole logical state as of now: the key-values as HashKV does, and the leases, alarms, members and
// versions. It is the same on every member that has applied the same entries, however its files lie on the disk and
// however far its compaction has come. The revision is the one hashed. It waits for its turn among calls of HashKV.
func (m *Member) Hash(ctx context.Context) (hash uint32, revision int64, err error) {
	err = m.maintenance.inTurn(ctx, m.maintenance.hashing.clients, func() error {
		begin := m.cfg.Clock.Now()
		defer func() { m.measures.Hashes.Took(m.cfg.Clock.Now().Sub(begin)) }()
		for {
			hash, revision, err = m.hashOnce(ctx)
			// The two views are opened one after the other: the revision of the first may have been compacted away by
			// then, or not be published yet, or a compaction lies between them.
			again := errors.Is(err, mvcc.ErrCompacted) || errors.Is(err, mvcc.ErrFutureRevision) || errors.Is(err, errApart)
			if !again || ctx.Err() != nil {
				return err
			}
		}
	})
	return hash, revision, err
}

func (m *Member) hashOnce(ctx context.Context) (hash uint32, revision int64, err error) {
	err = m.maintenance.walk(ctx, func(ctx context.Context, g *generation) (err error) {
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
	return c.Hash(ctx, keys)
}
