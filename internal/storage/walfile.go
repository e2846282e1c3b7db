package storage

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// walFile is an open write-ahead log, or a directory, whose failures Pebble does not see.
//
// Pebble panics when it can not create, finish or write its log, in places where the panic meets a lock in the wrong
// state: the process would end with "unlock of unlocked mutex" and no word about the disk. So a failure
// here is reported to the failure of the database, which stops it, and Pebble is told that all went well. That
// is safe because nothing it does afterwards is believed: whoever waits for a commit, a seal, a flush or a durable
// record asks the failure before he answers, and it is raised before Pebble goes on.
type walFile struct {
	vfs.File
	name    string
	failure *failure
}

// isWAL tells a write-ahead log by its name.
func isWAL(name string) bool { return strings.HasSuffix(name, ".log") }

// wal wraps a log that was opened for writing, or puts one in memory in its place.
func (f *fence) wal(doing, name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		if !f.failure.take(fmt.Errorf("%s %s: %w", doing, name, err)) {
			return nil, err
		}
		return f.nowhere()
	}
	return &walFile{File: file, name: name, failure: f.failure}, nil
}

// refused answers a creation after the failure.
func (f *fence) refused(name string, err error) (vfs.File, error) {
	if isWAL(name) && f.failure.take(err) {
		return f.nowhere()
	}
	return nil, err
}

// nowhere returns a file that takes everything and keeps it in memory, which is little: commits are refused already.
func (f *fence) nowhere() (vfs.File, error) {
	return vfs.NewMem().Create("nowhere", vfs.WriteCategoryUnspecified)
}

// hide reports an error and tells what Pebble gets to see of it.
func (w *walFile) hide(doing string, err error) error {
	if err == nil || w.failure.take(fmt.Errorf("%s %s: %w", doing, w.name, err)) {
		return nil
	}
	return err
}

// Write implements vfs.File.
func (w *walFile) Write(p []byte) (n int, err error) {
	if n, err = w.File.Write(p); err != nil {
		if err = w.hide("write", err); err == nil {
			n = len(p)
		}
	}
	return n, err
}

// Sync implements vfs.File.
func (w *walFile) Sync() error { return w.hide("sync", w.File.Sync()) }

// SyncData implements vfs.File.
func (w *walFile) SyncData() error { return w.hide("sync", w.File.SyncData()) }

// SyncTo implements vfs.File.
func (w *walFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = w.File.SyncTo(length)
	return fullSync, w.hide("sync", err)
}

// Close implements vfs.File.
func (w *walFile) Close() error { return w.hide("close", w.File.Close()) }

// Stat implements vfs.File.
func (w *walFile) Stat() (vfs.FileInfo, error) {
	info, err := w.File.Stat()
	if err == nil || w.hide("look at", err) != nil {
		return info, err
	}
	f, err := (&fence{}).nowhere()
	if err != nil {
		return nil, err
	}
	return f.Stat()
}
