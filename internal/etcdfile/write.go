package etcdfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"

	bolterrors "go.etcd.io/bbolt/errors"
)

// SortSuffix is what the name of the file that Write needs besides has at its end.
const SortSuffix = ".sort"

// Write writes the content into the file at path, which must be empty or not exist, and returns its size. The file is
// not synced; after an error it is to be thrown away. It stops when ctx ends. A state that does not fit into memory is
// sorted in a file at path and SortSuffix, which must not exist and is gone when Write returns.
func (c *Content) Write(ctx context.Context, path string) (size int64, err error) {
	w, err := newWriter(path, c.rest)
	if err != nil {
		return 0, fmt.Errorf("make the database %s: %w", path, err)
	}
	if err = w.createBuckets(); err == nil {
		err = c.walk(ctx, path+SortSuffix, w.put)
	}
	if err == nil {
		size, err = w.finish()
	}
	if err = errors.Join(err, w.close()); err != nil {
		return 0, fmt.Errorf("write the database %s: %w", path, err)
	}
	return size, nil
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

// writer puts records into a new database, page after page. Several buckets may be filled beside each other.
type writer struct {
	p       *pageFile
	buckets map[string]*tree
	bucket  *tree // the one put to last
	name    string
}

func newWriter(path string, rest func()) (*writer, error) {
	p, err := createPages(path, rest)
	if err != nil {
		return nil, err
	}
	return &writer{p: p, buckets: make(map[string]*tree)}, nil
}

// createBuckets makes all buckets, since etcd's tools look for empty ones too.
func (w *writer) createBuckets() error {
	for _, name := range buckets {
		if err := w.createBucket(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) createBucket(name string) error {
	if w.buckets[name] != nil {
		return fmt.Errorf("bucket %s: %w", name, bolterrors.ErrBucketExists)
	}
	w.buckets[name] = newTree(w.p)
	return nil
}

// put adds a record to a bucket, in order of the keys.
func (w *writer) put(bucket string, key, value []byte) error {
	if w.bucket == nil || w.name != bucket {
		w.bucket, w.name = w.buckets[bucket], bucket
		if w.bucket == nil {
			return fmt.Errorf("bucket %s: %w", bucket, bolterrors.ErrBucketNotFound)
		}
	}
	if err := w.bucket.put(leafRecord, key, value); err != nil {
		return fmt.Errorf("bucket %s, key %x: %w", bucket, key, err)
	}
	return nil
}

// finish writes what is left, and the buckets' roots, and returns the file's size.
func (w *writer) finish() (size int64, err error) {
	top := newTree(w.p)
	for _, name := range slices.Sorted(maps.Keys(w.buckets)) {
		root, err := w.buckets[name].finish()
		if err != nil {
			return 0, fmt.Errorf("bucket %s: %w", name, err)
		}
		value := binary.NativeEndian.AppendUint64(nil, root)
		if err := top.put(leafBucket, []byte(name), binary.NativeEndian.AppendUint64(value, 0)); err != nil {
			return 0, fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	root, err := top.finish()
	if err != nil {
		return 0, err
	}
	return w.p.finish(root)
}

// sync makes the file durable.
func (w *writer) sync() error { return w.p.f.Sync() }

// close closes the file.
func (w *writer) close() error { return w.p.close() }
