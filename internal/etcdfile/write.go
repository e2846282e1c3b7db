package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
)

// transactionBytes bounds what is written in one transaction, which holds it in memory.
const transactionBytes = 4 << 20

// wholePages is the fill of a page: records come in order and nothing is put between them later.
const wholePages = 1.0

// Write writes the content into the file at path, which must be empty or not exist, and returns its size. The file is
// not synced; after an error it is to be thrown away. It stops when ctx ends.
func (c *Content) Write(ctx context.Context, path string) (size int64, err error) {
	db, err := openEmpty(path)
	if err != nil {
		return 0, fmt.Errorf("make the database %s: %w", path, err)
	}
	w := &writer{db: db}
	size, err = w.fill(ctx, c)
	if err = errors.Join(err, w.close()); err != nil {
		return 0, fmt.Errorf("write the database %s: %w", path, err)
	}
	// A page that was freed again before it was ever written may be the last one.
	if err := os.Truncate(path, size); err != nil {
		return 0, fmt.Errorf("write the database: %w", err)
	}
	return size, nil
}

func openEmpty(path string) (_ *bolt.DB, err error) {
	defer recoverFault(path, &err)()
	return bolt.Open(path, 0o600, &bolt.Options{
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
	})
}

// recoverFault turns into an error what bbolt panics with when its mapped file cannot be read, or holds nonsense. It is to
// be deferred in two steps: the call at once, the result at the end.
func recoverFault(path string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		r := recover()
		if r == nil {
			return
		}
		if fault, ok := r.(runtime.Error); ok {
			*err = fmt.Errorf("%w: %s: %w", ErrInvalid, path, fault)
			return
		}
		*err = fmt.Errorf("%w: %s: %v", ErrInvalid, path, r)
	}
}

// writer puts records into a database, in transactions of a bounded size.
type writer struct {
	db     *bolt.DB
	tx     *bolt.Tx
	bucket *bolt.Bucket
	name   string // of bucket
	bytes  int    // in tx
}

// fill writes everything and returns the size of the database.
func (w *writer) fill(ctx context.Context, c *Content) (size int64, err error) {
	defer recoverFault(w.db.Path(), &err)()
	if err := w.createBuckets(); err != nil {
		return 0, err
	}
	if err := c.walk(ctx, w.put); err != nil {
		return 0, err
	}
	if err := w.commit(); err != nil {
		return 0, err
	}
	err = w.db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil })
	return size, err
}

// createBuckets makes all buckets, since etcd's tools look for empty ones too.
func (w *writer) createBuckets() error {
	return w.db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return fmt.Errorf("bucket %s: %w", name, err)
			}
		}
		return nil
	})
}

func (w *writer) put(bucket string, key, value []byte) (err error) {
	if w.tx == nil {
		if w.tx, err = w.db.Begin(true); err != nil {
			return err
		}
		w.name = ""
	}
	if w.name != bucket {
		w.bucket, w.name = w.tx.Bucket([]byte(bucket)), bucket
		w.bucket.FillPercent = wholePages
	}
	// bbolt keeps the value until the transaction ends, the key it copies.
	if err := w.bucket.Put(key, append([]byte{}, value...)); err != nil {
		return fmt.Errorf("bucket %s, key %x: %w", bucket, key, err)
	}
	if w.bytes += len(key) + len(value); w.bytes >= transactionBytes {
		return w.commit()
	}
	return nil
}

func (w *writer) commit() error {
	tx := w.tx
	if tx == nil {
		return nil
	}
	w.tx, w.bucket, w.bytes = nil, nil, 0
	return tx.Commit()
}

// close closes the database, after a transaction that an error has left open.
func (w *writer) close() (err error) {
	defer recoverFault(w.db.Path(), &err)()
	if w.tx != nil {
		err = w.tx.Rollback()
	}
	return errors.Join(err, w.db.Close())
}
