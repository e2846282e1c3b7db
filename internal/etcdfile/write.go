package etcdfile

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ashlar-kv/ashlar/internal/progress"
)

// SortSuffix is what the name of the file that Write needs besides has at its end.
const SortSuffix = ".sort"

// Write writes the content into the file at path, which must be empty or not exist, and returns its size. The file is
// not synced; after an error it is to be thrown away. It stops when ctx ends. The state is sorted in a file at path and SortSuffix, which
// must not exist and is gone when Write returns.
func (c *Content) Write(ctx context.Context, path string) (size int64, err error) {
	f, err := createEmpty(path)
	if err != nil {
		return 0, fmt.Errorf("make the database %s: %w", path, err)
	}
	size, err = c.writeTo(ctx, f, path+SortSuffix)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("write the database %s: %w", path, err)
	}
	return size, nil
}

func (c *Content) writeTo(ctx context.Context, f *os.File, temp string) (size int64, err error) {
	sorted, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("make a file to sort versions: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	i, err := c.Image(ctx, sorted)
	if err != nil {
		return 0, errors.Join(err, sorted.Close())
	}
	defer func() { err = errors.Join(err, i.Empty(c.rest), i.Close()) }()
	ctx, line := progress.Begin(ctx, "writing the database", i.Size())
	defer line.End()
	r := i.Reader()
	r.release = true
	out := bufio.NewWriterSize(pieces{f, c.rest}, pieceBytes)
	if _, err := io.Copy(out, reading{ctx, r}); err != nil {
		return 0, err
	}
	return i.Size(), out.Flush()
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
	p       *pages
	buckets map[string]*tree
	bucket  *tree // the one put to last
	name    string
	key     []byte // of the last version
}

func newWriter(p *pages) *writer { return &writer{p: p, buckets: make(map[string]*tree)} }

// cloneTo returns a writer that goes on as this one would, but writes its pages elsewhere.
func (w *writer) cloneTo(out io.Writer) *writer {
	c := newWriter(&pages{out: out, size: w.p.size, next: w.p.next})
	for name, t := range w.buckets {
		c.buckets[name] = t.cloneTo(c.p)
	}
	return c
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
	return w.putSized(bucket, key, value, len(value))
}

// putVersion adds a version to the bucket of the keys.
func (w *writer) putVersion(v version) error {
	w.key = appendRevision(w.key[:0], Revision{Main: v.rev.Main, Sub: int64(v.rev.Sub), Tombstone: v.tombstone})
	return w.putSized(bucketKey, w.key, v.value, v.size)
}

func (w *writer) putSized(bucket string, key, value []byte, size int) error {
	if w.bucket == nil || w.name != bucket {
		w.bucket, w.name = w.buckets[bucket], bucket
		if w.bucket == nil {
			return fmt.Errorf("bucket %s: %w", bucket, bolterrors.ErrBucketNotFound)
		}
	}
	if err := w.bucket.putSized(leafRecord, key, value, size); err != nil {
		return fmt.Errorf("bucket %s, key %x: %w", bucket, key, err)
	}
	return nil
}

// finish writes what is left, and the buckets' roots.
func (w *writer) finish() (plan, error) {
	top := newTree(w.p)
	for _, name := range slices.Sorted(maps.Keys(w.buckets)) {
		root, err := w.buckets[name].finish()
		if err != nil {
			return plan{}, fmt.Errorf("bucket %s: %w", name, err)
		}
		value := binary.NativeEndian.AppendUint64(nil, root)
		if err := top.put(leafBucket, []byte(name), binary.NativeEndian.AppendUint64(value, 0)); err != nil {
			return plan{}, fmt.Errorf("bucket %s: %w", name, err)
		}
	}
	root, err := top.finish()
	if err != nil {
		return plan{}, err
	}
	return w.p.finish(root)
}
