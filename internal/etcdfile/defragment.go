package etcdfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	bolt "go.etcd.io/bbolt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Defragment rewrites a database of etcd's that no process has open, so that it has no free pages. The new file takes the
// place of the old one in one step: a crash leaves the one or the other. It waits for the file at most as long as timeout, 0 for
// ever, and returns the sizes before and after.
func Defragment(ctx context.Context, path string, timeout time.Duration) (before, after int64, err error) {
	defer recoverFault(path, &err)()
	// Open for writing, so that no server can have it, nor get it meanwhile.
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: timeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		return 0, 0, fmt.Errorf("open the database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f := &File{path: path, db: db}
	if before, err = f.size(); err != nil {
		return 0, 0, err
	}
	temp := path + ".defragmenting"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, 0, fmt.Errorf("remove what an earlier attempt left: %w", err)
	}
	if after, err = f.copyTo(ctx, temp); err != nil {
		return 0, 0, errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return 0, 0, fmt.Errorf("put the new database in its place: %w", err)
	}
	return before, after, storage.SyncDir(vfs.Default, filepath.Dir(path))
}

// copyTo writes every record into a new file, which is synced.
func (f *File) copyTo(ctx context.Context, path string) (size int64, err error) {
	w, err := createPages(path, runtime.Gosched)
	if err != nil {
		return 0, fmt.Errorf("make the database %s: %w", path, err)
	}
	err = f.Records(ctx, func(bucket string, key, value []byte) error {
		if key == nil {
			return w.createBucket(bucket)
		}
		return w.put(bucket, key, value)
	})
	if err == nil {
		size, err = w.finish()
	}
	if err == nil {
		err = w.sync()
	}
	if err = errors.Join(err, w.close()); err != nil {
		return 0, fmt.Errorf("write the database %s: %w", path, err)
	}
	return size, nil
}
