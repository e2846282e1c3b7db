package etcdfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Start is how a new cluster begins with the content of a file: with its own members, and a log of which nothing is left
// but that it added them.
type Start struct {
	Founding *cluster.Founding
	// Bump is how much the revision is raised. Above 0 everything up to the raised revision counts as compacted, so that
	// whoever has seen revisions of the old cluster is told to read anew.
	Bump uint64
}

// Index returns the index of the last entry that the new cluster's log is taken to have had; its term is FoundingTerm.
func (s Start) Index() uint64 { return uint64(len(s.Founding.Members())) }

// FoundingTerm is the term in which a cluster is founded.
const FoundingTerm = 1

// confState is raft's configuration of the members.
func (s Start) confState() *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, m := range s.Founding.Members() {
		cs.Voters = append(cs.Voters, uint64(m.ID))
	}
	return cs
}

// raised returns the revision that the store of a new cluster has.
func (s Start) raised(revision int64) (int64, error) {
	if s.Bump > uint64(math.MaxInt64-revision) {
		return 0, fmt.Errorf("the revision %d cannot be raised by %d: there is none so high", revision, s.Bump)
	}
	return revision + int64(s.Bump), nil
}

// BuildStart is Build for the state that a new cluster begins with. It returns the store's revision.
func (f *File) BuildStart(ctx context.Context, db *storage.DB, s Start) (revision int64, err error) {
	b := builder{f: f, db: db}
	if b.meta, err = f.Meta(); err != nil {
		return 0, err
	}
	if revision, err = f.Revision(); err != nil {
		return 0, err
	}
	if revision, err = s.raised(revision); err != nil {
		return 0, err
	}
	if s.Bump > 0 {
		b.meta.Scheduled, b.revision = revision, revision
	}
	members := func() error { return b.found(s.Founding) }
	return revision, b.build(ctx, members, s.Index(), FoundingTerm, s.confState())
}

// found writes the members of a new cluster, and what the file's cluster has beside them.
func (b *builder) found(f *cluster.Founding) error {
	ms, err := cluster.Load(b.db)
	if err != nil {
		return err
	}
	return b.inBatch(func(batch *storage.Batch) error {
		change := ms.Begin(batch)
		var errs []error
		for _, m := range f.Members() {
			errs = append(errs, change.Add(m))
		}
		return errors.Join(append(errs, b.versionOf(change))...)
	}, nil)
}

// WriteStart writes, to a file at path that must not exist, the database that etcd's own tool would restore this one to: its
// records with the new cluster's members. The file is synced, its name is not.
func (f *File) WriteStart(ctx context.Context, path string, s Start) (err error) {
	size, err := f.size()
	if err != nil {
		return err
	}
	if err := copyFile(ctx, path, f.path, size); err != nil {
		return fmt.Errorf("write the database %s: %w", path, err)
	}
	revision, err := f.Revision()
	if err != nil {
		return err
	}
	if revision, err = s.raised(revision); err != nil {
		return err
	}
	defer recoverFault(path, &err)()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return fmt.Errorf("open the database %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return errors.Join(s.putMembers(tx), s.putMeta(tx), s.putRevision(tx, revision))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write the database %s: %w", path, err)
	}
	return nil
}

// size returns how many bytes of the file are the database: a checksum may stand behind it.
func (f *File) size() (size int64, err error) {
	err = f.view(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	return size, err
}

func copyFile(ctx context.Context, to, from string, size int64) (err error) {
	ctx, line := progress.Begin(ctx, "copying the database", size)
	defer line.End()
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.CopyN(out, reading{ctx, in}, size)
	return err
}

func (s Start) putMembers(tx *bolt.Tx) error {
	for _, name := range []string{bucketMembers, bucketRemoved} {
		if err := tx.DeleteBucket([]byte(name)); err != nil && tx.Bucket([]byte(name)) != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	for _, m := range s.Founding.Members() {
		record, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := tx.Bucket([]byte(bucketMembers)).Put(memberName(uint64(m.ID)), record); err != nil {
			return err
		}
	}
	return nil
}

func (s Start) putMeta(tx *bolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketMeta))
	if err != nil {
		return err
	}
	conf, err := encodeConfState(s.confState())
	if err != nil {
		return err
	}
	return errors.Join(b.Put([]byte(metaConfState), conf),
		b.Put([]byte(metaIndex), encodeNumber(s.Index())), b.Put([]byte(metaTerm), encodeNumber(FoundingTerm)))
}

// putRevision raises the revision as etcd's tool does: a version without a key at it, and a compaction up to it.
func (s Start) putRevision(tx *bolt.Tx, revision int64) error {
	if s.Bump == 0 {
		return nil
	}
	versions, err := tx.CreateBucketIfNotExists([]byte(bucketKey))
	if err != nil {
		return err
	}
	last := Revision{Main: revision}
	if k, _ := versions.Cursor().Last(); k != nil {
		newest, err := decodeRevision(k)
		if err != nil {
			return err
		}
		last.Sub = newest.Sub
	}
	at := appendRevision(nil, last)
	return errors.Join(versions.Put(at, []byte{}), tx.Bucket([]byte(bucketMeta)).Put([]byte(metaScheduled), at))
}

// SetStorageVersion writes the version that the file says its records have; "" takes it away, as etcd 3.5 has it.
// It waits for a process that has the file open at most as long as timeout, 0 for ever.
func SetStorageVersion(path, version string, timeout time.Duration) (err error) {
	defer recoverFault(path, &err)()
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
		NoStatistics: true, Timeout: timeout})
	if err != nil {
		return fmt.Errorf("open the database %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketMeta))
		if b == nil {
			return fmt.Errorf("%w: no bucket %s", ErrInvalid, bucketMeta)
		}
		if version == "" {
			return b.Delete([]byte(metaStorage))
		}
		return b.Put([]byte(metaStorage), []byte(version))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("set the storage version of %s: %w", path, err)
	}
	return nil
}
