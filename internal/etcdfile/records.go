package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	bolt "go.etcd.io/bbolt"
)

// BucketKey is the bucket of the versions of keys.
const BucketKey = bucketKey

// RevisionOf returns the main revision in a key of the bucket BucketKey.
func RevisionOf(key []byte) (int64, error) {
	r, err := decodeRevision(key)
	return r.Main, err
}

// Walk is a walk over the versions of a file, one after the other. It belongs to one goroutine and must be closed.
type Walk struct {
	f     *File
	tx    *bolt.Tx
	c     *bolt.Cursor
	begun bool
}

// Walk opens a walk over the versions.
func (f *File) Walk() (w *Walk, err error) {
	defer recoverFault(f.path, &err)()
	tx, err := f.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("read the database %s: %w", f.path, err)
	}
	w = &Walk{f: f, tx: tx}
	if b := tx.Bucket([]byte(bucketKey)); b != nil {
		w.c = b.Cursor()
	}
	return w, nil
}

// Next returns the next version, nil after the last. The slices are valid until Close.
func (w *Walk) Next() (key, value []byte, err error) {
	defer recoverFault(w.f.path, &err)()
	switch {
	case w.c == nil:
		return nil, nil, nil
	case !w.begun:
		w.begun = true
		key, value = w.c.First()
	default:
		key, value = w.c.Next()
	}
	return key, value, nil
}

// Close ends the walk.
func (w *Walk) Close() error { return w.tx.Rollback() }

// Writer writes a database of etcd's record by record. It belongs to one goroutine.
type Writer struct{ w *pageFile }

// Create makes a database with all of etcd's buckets, empty ones, in the file at path, which must be empty or not exist. After an
// error the file is to be thrown away.
func Create(path string) (*Writer, error) {
	w, err := createPages(path, runtime.Gosched)
	if err != nil {
		return nil, fmt.Errorf("make the database %s: %w", path, err)
	}
	if err := w.createBuckets(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return &Writer{w}, nil
}

// Put writes a record. Records come in order of their keys in each bucket, which must be one of etcd's.
func (w *Writer) Put(bucket string, key, value []byte) error {
	if w.w.name != bucket && !known(bucket) {
		return fmt.Errorf("%w: a bucket %q", ErrInvalid, bucket)
	}
	return w.w.put(bucket, key, value)
}

func known(bucket string) bool {
	for _, b := range buckets {
		if b == bucket {
			return true
		}
	}
	return false
}

// Finish writes what is left, syncs and closes the file. Without it Abandon is to be called.
func (w *Writer) Finish() error {
	_, err := w.w.finish()
	if err == nil {
		err = w.w.sync()
	}
	return errors.Join(err, w.w.close())
}

// Abandon closes the file, which is to be thrown away.
func (w *Writer) Abandon() error { return w.w.close() }

// Rest calls fn for every record but the versions of keys, in order. The slices are valid until fn returns. A bucket that etcd does
// not have is left out.
func (f *File) Rest(ctx context.Context, fn func(bucket string, key, value []byte) error) error {
	for _, bucket := range buckets {
		if bucket == bucketKey {
			continue
		}
		if err := f.each(ctx, bucket, nil, func(key, value []byte) error { return fn(bucket, key, value) }); err != nil {
			return err
		}
	}
	return nil
}
