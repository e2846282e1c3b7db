package etcdfile

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/progress"
)

// Status sums up a database.
type Status struct {
	// Hash is CRC-32C over the names of all buckets and their keys and values.
	Hash uint32
	// Revision is the main revision of the newest version, 0 when there is none.
	Revision int64
	// Keys is how many keys are live.
	Keys int
	// Size is that of the database in bytes, without a checksum behind it.
	Size int64
	// Version is the storage version, "" when the file says none (before etcd 3.6).
	Version string
}

// Status reads the whole file, and so finds what cannot be read in it; errors wrap ErrInvalid then, or are bbolt's. Its memory
// grows with the number of keys.
func (f *File) Status(ctx context.Context) (s Status, err error) {
	if err := f.Check(ctx); err != nil {
		return Status{}, err
	}
	meta, err := f.Meta()
	if err != nil {
		return Status{}, err
	}
	s.Version = meta.StorageVersion
	if s.Size, err = f.size(); err != nil {
		return Status{}, err
	}
	live := make(map[string]struct{})
	h := crc32.New(castagnoli)
	last := ""
	ctx, line := progress.Begin(ctx, "summing up", s.Size)
	defer line.End()
	err = f.Records(ctx, func(bucket string, key, value []byte) error {
		if bucket != last {
			last = bucket
			_, _ = io.WriteString(h, bucket) // a hash takes everything
		}
		_, _ = h.Write(key)
		_, _ = h.Write(value)
		if bucket != bucketKey || key == nil {
			return nil
		}
		at, err := decodeRevision(key)
		if err != nil {
			return err
		}
		kv, err := mvcc.ParseKV(value)
		if err != nil {
			return fmt.Errorf("%w: the version at %d/%d: %w", ErrInvalid, at.Main, at.Sub, err)
		}
		s.Revision = at.Main
		if at.Tombstone {
			delete(live, string(kv.Key()))
		} else {
			live[string(kv.Key())] = struct{}{}
		}
		return nil
	})
	s.Hash, s.Keys = h.Sum32(), len(live)
	return s, err
}

// Records calls fn for every bucket, with neither key nor value, and after it for each of its records, in order of bucket and
// key. The slices are valid until fn returns.
func (f *File) Records(ctx context.Context, fn func(bucket string, key, value []byte) error) error {
	line := progress.Of(ctx)
	return f.view(func(tx *bolt.Tx) error {
		n := 0
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			bucket := string(name)
			if err := fn(bucket, nil, nil); err != nil {
				return err
			}
			return b.ForEach(func(k, v []byte) error {
				if n++; n%contextEvery == 0 && ctx.Err() != nil {
					return ctx.Err()
				}
				line.Add(int64(len(k) + len(v)))
				return fn(bucket, k, v)
			})
		})
	})
}

// Check reads every page that records lie in: the file is as long as it says, keys are in order, and every record is one
// that can be read. Damage within a value that still decodes only a checksum finds (CheckSum, HashKV).
func (f *File) Check(ctx context.Context) error {
	size, err := f.size()
	if err != nil {
		return err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if info.Size() < size {
		return fmt.Errorf("%w: %s has %d bytes and should have %d: it was cut short", ErrInvalid, f.path, info.Size(), size)
	}
	bucket, last := "", []byte(nil)
	ctx, line := progress.Begin(ctx, "checking every record", 2*size)
	defer line.End()
	err = f.Records(ctx, func(name string, key, _ []byte) error {
		if name != bucket {
			bucket, last = name, last[:0]
			return nil
		}
		if len(last) > 0 && bytes.Compare(last, key) >= 0 {
			return fmt.Errorf("%w: %s: bucket %s: key %x stands after %x", ErrInvalid, f.path, bucket, key, last)
		}
		last = append(last[:0], key...)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = f.Meta()
	_, merr := f.Leases()
	_, aerr := f.Alarms()
	_, _, cerr := f.Members()
	return errors.Join(err, merr, aerr, cerr,
		f.Versions(ctx, 0, func(Revision, mvcc.KV) error { return nil }))
}

// SumError is returned by CheckSum for a file whose checksum is another than that of its content.
type SumError struct{ Want, Got [sha256.Size]byte }

// Error says both in decimal bytes, as etcd's tool does.
func (e *SumError) Error() string {
	return fmt.Sprintf("expected sha256 %v, got %v", e.Want[:], e.Got[:])
}

// ErrNoSum is returned by CheckSum for a file without a checksum: one that was copied, and not saved by a client.
var ErrNoSum = errors.New("snapshot missing hash but --skip-hash-check=false")

// sectorBytes divides the size of every database.
const sectorBytes = 512

// CheckSum compares the SHA-256 behind a snapshot's database, by which a client ends it, with the database. It returns a
// *SumError or ErrNoSum.
func CheckSum(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return fmt.Errorf("look at the snapshot: %w", err)
	}
	if info.Size()%sectorBytes != sha256.Size {
		return ErrNoSum
	}
	ctx, line := progress.Begin(ctx, "comparing the checksum", info.Size())
	defer line.End()
	h := sha256.New()
	if _, err := io.CopyN(h, reading{ctx, in}, info.Size()-sha256.Size); err != nil {
		return fmt.Errorf("read the snapshot %s: %w", path, err)
	}
	var e SumError
	if _, err := io.ReadFull(in, e.Want[:]); err != nil {
		return fmt.Errorf("read the snapshot %s: %w", path, err)
	}
	if h.Sum(e.Got[:0]); e.Got != e.Want {
		return &e
	}
	return nil
}

// reading reads until its context ends, and tells the line of that how much.
type reading struct {
	ctx  context.Context
	from io.Reader
}

func (r reading) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.from.Read(p)
	progress.Of(r.ctx).Add(int64(n))
	return n, err
}

// AppendSum puts the SHA-256 of a database behind it, as a client ends a snapshot, and syncs the file.
func AppendSum(ctx context.Context, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	ctx, line := progress.Begin(ctx, "computing the checksum", 0)
	defer line.End()
	h := sha256.New()
	if _, err := io.Copy(h, reading{ctx, f}); err != nil {
		return fmt.Errorf("read the database %s: %w", path, err)
	}
	if _, err := f.Write(h.Sum(nil)); err != nil {
		return fmt.Errorf("write the checksum of %s: %w", path, err)
	}
	return f.Sync()
}
