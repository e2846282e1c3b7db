package storage

import (
	"errors"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence is the filesystem below Pebble. From the first failure of the database on nothing reaches the disk any
// more: what Pebble still writes goes into memory or nowhere, and all of it succeeds. The directory stays as a crash
// at that moment would leave it, and nothing in Pebble waits for a disk that does not come back: a flush that fails
// for ever would keep stalled writers, and with them Close, waiting for ever. While the database is being opened
// Pebble sees no failure either: each ends the goroutine that meets it, and the attempt is abandoned as it is (failure.fail). Where Pebble itself
// returns an error from Open it closes its caches, and a compaction that it has begun, or is about to, then panics.
type fence struct {
	vfs.FS
	dir     string // of the database, as Pebble joins it
	failure *failure
	pacer   *pacer     // may be nil
	memory  *vfs.MemFS // what is created after a failure
	loose   sync.Map   // directories of copies, by their path: no crash leaves one that anybody reads, so nothing in them is synced
}

func newFence(fs vfs.FS, f *failure, p *pacer) *fence {
	return &fence{FS: fs, dir: fs.PathDir(fs.PathJoin(f.dir, "any")), failure: f, pacer: p, memory: vfs.NewMem()}
}

// hidingOf tells by a file's name which failures of it Pebble does not see.
func (f *fence) hidingOf(name string) hiding {
	switch base := f.PathBase(name); {
	case f.PathDir(name) != f.dir:
		return hidesNothing // that a copy cannot be made is no failure of the database
	case strings.HasSuffix(base, ".log"), strings.HasPrefix(base, manifestPrefix), strings.HasPrefix(base, markerPrefix):
		return hidesAlways
	}
	return hidesWhileOpening
}

// raised returns the failure that has raised the fence, nil before. While the database is being opened it does not return then, as Pebble would return
// the error from Open.
func (f *fence) raised() error {
	err := f.failure.check()
	if err != nil {
		f.failure.take(err)
	}
	return err
}

// Create implements vfs.FS. Besides, it makes the names of a manifest and of a marker durable at once. Pebble syncs the directory
// only after it has made the marker that names the manifest and has removed the marker before, so a crash between these could leave the
// marker without the manifest, or no marker, on a filesystem that keeps no order among the names of a directory. Our crash tests
// found that; ext4, XFS and Btrfs keep the order.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.failure.check(); err != nil {
		return f.insteadOf(name, err)
	}
	file, err := f.FS.Create(name, c)
	if err == nil && f.isLoose(f.PathDir(name)) {
		file = looseFile{file}
	} else if base := f.PathBase(name); err == nil && (strings.HasPrefix(base, manifestPrefix) || strings.HasPrefix(base, markerPrefix)) {
		if err = SyncDir(f.FS, f.PathDir(name)); err != nil {
			err = errors.Join(err, file.Close())
		}
	}
	if file, err = f.written("create", name, file, err); err != nil {
		return nil, err
	}
	return f.pacer.wrap(file, c), nil
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.failure.check(); err != nil {
		return f.insteadOf(newname, err)
	}
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.written("reuse", newname, file, err)
}

// written wraps a file that was opened for writing.
func (f *fence) written(doing, name string, file vfs.File, err error) (vfs.File, error) {
	switch {
	case err == nil:
		return &writtenFile{File: file, name: name, failure: f.failure, hides: f.hidingOf(name)}, nil
	case f.failure.hidden(f.hidingOf(name)):
		if err = f.failure.hide(doing, name, err); err == nil {
			return f.insteadOf(name, f.failure.check())
		}
	}
	return nil, err
}

// insteadOf creates a file in memory after the failure err.
func (f *fence) insteadOf(name string, err error) (vfs.File, error) {
	f.failure.take(err)
	if err := f.memory.MkdirAll(f.PathDir(name), dirPerm); err != nil {
		return nil, err
	}
	return f.memory.Create(name, vfs.WriteCategoryUnspecified)
}

// Open implements vfs.FS.
func (f *fence) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	if errors.Is(err, os.ErrNotExist) && f.failure.check() != nil {
		return f.memory.Open(name, opts...)
	}
	return file, err
}

// Stat implements vfs.FS.
func (f *fence) Stat(name string) (vfs.FileInfo, error) {
	info, err := f.FS.Stat(name)
	if errors.Is(err, os.ErrNotExist) && f.failure.check() != nil {
		return f.memory.Stat(name)
	}
	return info, err
}

// OpenDir implements vfs.FS. A directory is opened in order to be synced. Pebble panics where that fails, in one of a copy, too, so it never sees it.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	if f.isLoose(name) {
		file = looseFile{file}
	}
	return &writtenFile{File: file, name: name, failure: f.failure, hides: hidesAlways}, nil
}

// loosen says that nothing in dir, nor its name, need outlast a crash, until tighten is called.
func (f *fence) loosen(dir string) (tighten func()) {
	f.loose.Store(dir, nil)
	f.loose.Store(f.PathDir(dir), nil) // Pebble syncs it for the name; it has nothing else there
	return func() {                    // another copy that is being made beside it syncs more than it must, and that is all
		f.loose.Delete(dir)
		f.loose.Delete(f.PathDir(dir))
	}
}

func (f *fence) isLoose(dir string) bool {
	_, ok := f.loose.Load(dir)
	return ok
}

// looseFile is a file, or a directory, that is never synced.
type looseFile struct{ vfs.File }

// Sync implements vfs.File.
func (looseFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (looseFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (looseFile) SyncTo(int64) (fullSync bool, err error) { return true, nil }

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.raised(); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.written("open", name, file, err)
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	if err := f.raised(); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	if err := f.raised(); err != nil {
		return err
	}
	err := f.FS.Rename(oldname, newname)
	if err != nil && f.failure.hidden(f.hidingOf(newname)) {
		return f.failure.hide("rename", oldname, err)
	}
	return err
}

// List implements vfs.FS.
func (f *fence) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	if err != nil && f.PathDir(f.PathJoin(dir, "any")) == f.dir && f.failure.hidden(hidesWhileOpening) {
		return nil, f.failure.hide("list", dir, err)
	}
	return names, err
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	if f.failure.check() != nil {
		return nil
	}
	return f.pacer.remove(f.FS, name)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	if f.failure.check() != nil {
		return nil
	}
	return f.FS.RemoveAll(name)
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }
