package etcdfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// openTimeout is how long Open waits for a process that has the file open for writing.
const openTimeout = time.Second

// contextEvery is after how many records a long walk looks whether it is still wanted.
const contextEvery = 1024

// File is a database in etcd's layout, open for reading. It is safe for concurrent use.
type File struct {
	path string
	db   *bolt.DB
}

// Open opens a database that etcd or Write has made. It never changes the file. The caller closes it.
func Open(path string) (*File, error) { return OpenWithin(path, openTimeout) }

// OpenWithin is Open with a limit of its own for how long a process that has the file open for writing is waited for; 0 is none.
func OpenWithin(path string, timeout time.Duration) (f *File, err error) {
	defer recoverFault(path, &err)()
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the database %s: %w", path, fs.ErrInvalid)
	}
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: timeout, NoStatistics: true})
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	return &File{path: path, db: db}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.db.Close() }

// view runs fn in a transaction; what goes wrong in bbolt is an error.
func (f *File) view(fn func(tx *bolt.Tx) error) (err error) {
	defer recoverFault(f.path, &err)()
	if err := f.db.View(fn); err != nil {
		return fmt.Errorf("read the database %s: %w", f.path, err)
	}
	return nil
}

// each calls fn for every record of a bucket; an absent bucket is empty. The slices are valid until fn returns.
func (f *File) each(ctx context.Context, bucket string, from []byte, fn func(key, value []byte) error) error {
	line := progress.Of(ctx)
	return f.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		c := b.Cursor()
		n := 0
		for k, v := c.Seek(from); k != nil; k, v = c.Next() {
			if n++; n%contextEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			line.Add(int64(len(k) + len(v)))
			if err := fn(k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// Meta is what a file says of itself.
type Meta struct {
	// Index and Term are those of the last entry applied.
	Index, Term uint64
	// ConfState is raft's configuration, nil when there is none.
	ConfState *raftpb.ConfState
	// StorageVersion and ClusterVersion are texts such as "3.7.0", "" when there is none.
	StorageVersion, ClusterVersion string
	// Downgrade is the downgrade under way; zero when there is none.
	Downgrade cluster.Downgrade
	// Scheduled is the revision compacted to and Finished to which one the compaction has ended, -1 for never.
	Scheduled, Finished int64
	// AuthEnabled says whether requests need permissions; AuthRevision counts changes of those.
	AuthEnabled  bool
	AuthRevision uint64
}

// Compacted returns the revision below which nothing can be read, -1 when everything can.
func (m *Meta) Compacted() int64 { return max(m.Scheduled, m.Finished) }

// Meta reads what the file says of itself. Errors wrap ErrInvalid.
func (f *File) Meta() (Meta, error) {
	m := Meta{Scheduled: -1, Finished: -1}
	err := f.view(func(tx *bolt.Tx) error {
		return errors.Join(
			readFacts(tx, bucketMeta, map[string]func([]byte) error{
				metaIndex:     number(&m.Index),
				metaTerm:      number(&m.Term),
				metaConfState: func(b []byte) (err error) { m.ConfState, err = decodeConfState(b); return err },
				metaStorage:   text(&m.StorageVersion),
				metaScheduled: mainRevision(&m.Scheduled),
				metaFinished:  mainRevision(&m.Finished),
			}),
			readFacts(tx, bucketCluster, map[string]func([]byte) error{
				clusterVersion: text(&m.ClusterVersion),
				clusterTarget:  func(b []byte) error { return json.Unmarshal(b, &m.Downgrade) },
			}),
			readFacts(tx, bucketAuth, map[string]func([]byte) error{
				authEnabled:  func(b []byte) error { m.AuthEnabled = len(b) == 1 && b[0] == 1; return nil },
				authRevision: number(&m.AuthRevision),
			}),
		)
	})
	return m, err
}

// readFacts hands every record of a bucket that has a reader to it.
func readFacts(tx *bolt.Tx, bucket string, readers map[string]func([]byte) error) error {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return fmt.Errorf("%w: no bucket %s", ErrInvalid, bucket)
	}
	for name, read := range readers {
		v := b.Get([]byte(name))
		if v == nil {
			continue
		}
		if err := read(v); err != nil {
			return fmt.Errorf("%w: bucket %s, %s: %w", ErrInvalid, bucket, name, err)
		}
	}
	return nil
}

func number(n *uint64) func([]byte) error {
	return func(b []byte) (err error) { *n, err = decodeNumber(b); return err }
}

func text(s *string) func([]byte) error {
	return func(b []byte) error { *s = string(b); return nil }
}

func mainRevision(n *int64) func([]byte) error {
	return func(b []byte) error {
		r, err := decodeRevision(b)
		*n = r.Main
		return err
	}
}

// Versions calls fn for every version from a main revision on, in order. kv is the encoded KeyValue, valid until fn
// returns; a tombstone's has a key alone. An error of fn ends the walk.
func (f *File) Versions(ctx context.Context, from int64, fn func(at Revision, kv mvcc.KV) error) error {
	return f.each(ctx, bucketKey, appendRevision(nil, Revision{Main: max(0, from)}), func(k, v []byte) error {
		at, err := decodeRevision(k)
		if err != nil {
			return err
		}
		kv, err := mvcc.ParseKV(v)
		if err != nil {
			return fmt.Errorf("%w: the version at %d/%d: %w", ErrInvalid, at.Main, at.Sub, err)
		}
		return fn(at, kv)
	})
}

// Leases returns all leases, in order of their ids as unsigned numbers.
func (f *File) Leases() (all []lease.Lease, err error) {
	err = f.each(context.Background(), bucketLease, nil, func(k, v []byte) error {
		l, err := decodeLease(k, v)
		all = append(all, l)
		return err
	})
	return all, err
}

// Alarms returns all alarms.
func (f *File) Alarms() (all []cluster.Alarm, err error) {
	err = f.each(context.Background(), bucketAlarm, nil, func(k, _ []byte) error {
		a, err := decodeAlarm(k)
		all = append(all, a)
		return err
	})
	return all, err
}

// Members returns the members, and the ids of those that were removed.
func (f *File) Members() (members []cluster.Member, removed []cluster.ID, err error) {
	err = f.each(context.Background(), bucketMembers, nil, func(k, v []byte) error {
		id, err := decodeMemberName(k)
		if err != nil {
			return err
		}
		var m cluster.Member
		if err := json.Unmarshal(v, &m); err != nil {
			return fmt.Errorf("%w: member %s: %w", ErrInvalid, id, err)
		}
		if m.ID != id {
			return fmt.Errorf("%w: the record of member %s is that of %s", ErrInvalid, id, m.ID)
		}
		members = append(members, m)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	err = f.each(context.Background(), bucketRemoved, nil, func(k, _ []byte) error {
		id, err := decodeMemberName(k)
		removed = append(removed, id)
		return err
	})
	return members, removed, err
}

// IsNew tells whether etcd has not written anything to the file yet: it makes its buckets with the first batch.
func (f *File) IsNew() (is bool, err error) {
	err = f.view(func(tx *bolt.Tx) error {
		is = tx.Bucket([]byte(bucketMeta)) == nil && tx.Bucket([]byte(bucketKey)) == nil
		return nil
	})
	return is, err
}
