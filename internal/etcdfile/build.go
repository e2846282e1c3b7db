package etcdfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// leaseBatchMax is how many changes of leases go into one batch.
const leaseBatchMax = 10_000

// Build writes the file's content into db, which must be an empty state, as the state after the entry at index and term, with a
// configuration of raft. It is not durable before db is flushed. When it fails, with an error that wraps ErrInvalid where
// the file is at fault, db is to be thrown away.
func (f *File) Build(ctx context.Context, db *storage.DB, index, term uint64, conf *raftpb.ConfState) error {
	meta, err := f.Meta()
	if err != nil {
		return err
	}
	if meta.Index > index {
		return fmt.Errorf("%w: it holds the state after entry %d, not %d", ErrInvalid, meta.Index, index)
	}
	b := builder{f: f, db: db, meta: meta}
	return b.build(ctx, b.members, index, term, conf)
}

// build does all steps; members writes the membership.
func (b *builder) build(ctx context.Context, members func() error, index, term uint64, conf *raftpb.ConfState) error {
	size, err := b.f.size()
	if err != nil {
		return err
	}
	ctx, line := progress.Begin(ctx, "restoring", size)
	defer line.End()
	for _, step := range []func() error{
		members,
		b.alarms,
		b.users,
		func() error { return b.conf(conf) },
		b.leases,
		func() error { return b.versions(ctx, index, term) },
		b.hang,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("build a state of etcd's database: %w", err)
		}
	}
	return nil
}

type builder struct {
	f    *File
	db   *storage.DB
	meta Meta
	hung map[string]int64 // the lease that each key hangs on

	revision int64 // the store's revision is at least this
}

// inBatch commits what fill puts into a batch, and then calls done.
func (b *builder) inBatch(fill func(*storage.Batch) error, done func()) error {
	batch := b.db.NewBatch()
	err := fill(batch)
	if err == nil {
		err = b.db.Commit(batch)
	}
	if err = errors.Join(err, batch.Close()); err == nil && done != nil {
		done()
	}
	return err
}

func (b *builder) members() error {
	ms, err := cluster.Load(b.db)
	if err != nil {
		return err
	}
	all, removed, err := b.f.Members()
	if err != nil {
		return err
	}
	return b.inBatch(func(batch *storage.Batch) error {
		change := ms.Begin(batch)
		var errs []error
		for _, x := range all {
			errs = append(errs, change.Add(x))
		}
		for _, id := range removed {
			errs = append(errs, change.Remove(id))
		}
		return errors.Join(append(errs, b.versionOf(change))...)
	}, nil)
}

// versionOf sets the cluster's version, and the downgrade under way.
func (b *builder) versionOf(change *cluster.Change) (err error) {
	if v := b.meta.ClusterVersion; v != "" {
		err = change.SetVersion(v)
	}
	if b.meta.Downgrade != (cluster.Downgrade{}) {
		err = errors.Join(err, change.SetDowngrade(b.meta.Downgrade))
	}
	return err
}

func (b *builder) alarms() error {
	as, err := cluster.LoadAlarms(b.db)
	if err != nil {
		return err
	}
	all, err := b.f.Alarms()
	if err != nil {
		return err
	}
	return b.inBatch(func(batch *storage.Batch) error {
		change := as.Begin(batch)
		var errs []error
		for _, a := range all {
			errs = append(errs, change.Activate(a))
		}
		return errors.Join(errs...)
	}, nil)
}

// users copies users and roles, whose records are etcd's, and writes whether authentication is on.
func (b *builder) users() error {
	return b.inBatch(func(batch *storage.Batch) error {
		for bucket, kind := range map[string]auth.Record{bucketAuthUsers: auth.RecordUser, bucketAuthRoles: auth.RecordRole} {
			err := b.f.each(context.Background(), bucket, nil, func(k, v []byte) error {
				return batch.Set(storage.AppendPlainKey(nil, storage.SpaceAuth, []byte{byte(kind)}, k), v, nil)
			})
			if err != nil {
				return err
			}
		}
		if b.meta.AuthRevision == 0 {
			return nil // nobody ever used it
		}
		standing := append(binary.AppendUvarint(nil, b.meta.AuthRevision), 0)
		if b.meta.AuthEnabled {
			standing[len(standing)-1] = 1
		}
		return batch.Set(auth.StandingKey(), standing, nil)
	}, nil)
}

func (b *builder) conf(conf *raftpb.ConfState) error {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(conf)
	if err != nil {
		return err
	}
	return b.inBatch(func(batch *storage.Batch) error {
		return batch.Set(storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("confstate")), encoded, nil)
	}, nil)
}

func (b *builder) leases() error {
	all, err := b.f.Leases()
	if err != nil {
		return err
	}
	return b.inLeases(len(all), func(c *lease.Change, i int) error {
		l := all[i]
		return errors.Join(c.Grant(l.ID, l.TTL), c.Checkpoint(l.ID, l.Remaining))
	})
}

// inLeases calls one for each of n changes.
func (b *builder) inLeases(n int, one func(c *lease.Change, i int) error) error {
	table, err := lease.Load(b.db)
	if err != nil {
		return err
	}
	for i := 0; i < n; {
		var change *lease.Change
		err := b.inBatch(func(batch *storage.Batch) error {
			change = table.Begin(batch)
			for end := min(n, i+leaseBatchMax); i < end; i++ {
				if err := one(change, i); err != nil {
					return err
				}
			}
			return nil
		}, func() { change.Publish() })
		if err != nil {
			return err
		}
	}
	return nil
}

// versions writes the versions of all keys and notes which hang on leases.
func (b *builder) versions(ctx context.Context, index, term uint64) (err error) {
	im, err := mvcc.NewImporter(b.db, b.meta.Compacted())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, im.Close()) }()
	b.hung = make(map[string]int64)
	err = b.f.Versions(ctx, 0, func(at Revision, kv mvcc.KV) error {
		if at.Sub > math.MaxUint32-1 {
			return fmt.Errorf("%w: the revision %d/%d", ErrInvalid, at.Main, at.Sub)
		}
		if len(kv.Raw()) == 0 && !at.Tombstone {
			b.revision = max(b.revision, at.Main) // no key: etcdutl puts it there to raise the revision
			return nil
		}
		if err := im.Add(mvcc.Revision{Main: at.Main, Sub: uint32(at.Sub)}, kv, at.Tombstone); err != nil {
			return err
		}
		id := kv.Lease()
		if id != 0 && !at.Tombstone {
			b.hung[string(kv.Key())] = id
		} else if len(b.hung) > 0 {
			delete(b.hung, string(kv.Key()))
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = im.Finish(mvcc.Imported{Index: index, Term: term, Scheduled: b.meta.Scheduled, Finished: b.meta.Finished,
		Revision: b.revision})
	return err
}

// hang hangs the keys on their leases. A lease that is not there has none.
func (b *builder) hang() error {
	table, err := lease.Load(b.db)
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(b.hung))
	for k, id := range b.hung {
		if _, ok := table.Get(id); ok {
			keys = append(keys, k)
		}
	}
	return b.inLeases(len(keys), func(c *lease.Change, i int) error {
		return c.Attach(b.hung[keys[i]], []byte(keys[i]))
	})
}
