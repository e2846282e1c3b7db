package storage

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// failure remembers the first failure of a database and stops it.
type failure struct {
	dir  string
	call func(error)

	raised atomic.Bool   // read by the fence on every operation that changes the directory
	done   chan struct{} // closed once err is set

	mu      sync.Mutex // guards what follows; not held while call runs
	opening bool       // failures of Open are its result and call nobody
	closing bool       // nor does background work that Close cuts off
	err     error
}

func newFailure(dir string, call func(error)) *failure {
	return &failure{dir: dir, call: call, done: make(chan struct{}), opening: true}
}

// fail records the first failure, raises the fence, and reports it.
func (f *failure) fail(err error) {
	f.mu.Lock()
	if f.err != nil {
		f.mu.Unlock()
		return
	}
	f.err = fmt.Errorf("%w: %w", ErrFailed, err)
	f.raised.Store(true)
	close(f.done)
	silent, err := f.opening || f.closing, f.err
	f.mu.Unlock()
	if !silent {
		f.call(err)
	}
}

// check returns nil as long as nothing failed.
func (f *failure) check() error {
	if !f.raised.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// opened ends the time in which failures call nobody.
func (f *failure) opened() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = false
}

// close begins the time in which failures call nobody again.
func (f *failure) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closing = true
}

// fence is the filesystem below Pebble. It no longer changes the directory after a failure. Files that are open
// already are passed through: an append to one of them can destroy nothing that was durable.
type fence struct {
	vfs.FS
	failure *failure
}

// Create implements vfs.FS. Besides, it makes the name of a manifest durable at once. Pebble syncs the directory
// only after it has made the marker that names the manifest, so a crash between the two could leave the marker
// without the manifest on a filesystem that keeps no order among the names of a directory. Our crash tests
// found that; ext4, XFS and Btrfs keep the order.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.failure.check(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	if err != nil || !strings.HasPrefix(f.PathBase(name), "MANIFEST-") {
		return file, err
	}
	if err := SyncDir(f.FS, f.PathDir(name)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	if err := f.failure.check(); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.failure.check(); err != nil {
		return nil, err
	}
	return f.FS.OpenReadWrite(name, c, opts...)
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	if err := f.failure.check(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	if err := f.failure.check(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	if err := f.failure.check(); err != nil {
		return err
	}
	return f.FS.Rename(oldname, newname)
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.failure.check(); err != nil {
		return nil, err
	}
	return f.FS.ReuseForWrite(oldname, newname, c)
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }
