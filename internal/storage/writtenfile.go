package storage

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// writtenFile is a file that Pebble writes, or a directory that it syncs. After a failure of the database it takes
// everything and writes nothing (fence).
//
// With hides, Pebble does not even see the first failure: so it is for write-ahead logs, which a state has, too, though nothing is
// written to them, directories, manifests and markers, and while the database is being opened for every file (fence). Pebble
// panics when it can not create, finish or write its log, in places where the panic meets a lock in the wrong
// state: the process would end with "unlock of unlocked mutex" and no word about the disk; and when a compaction, or a move, can not be
// written to the manifest, as it takes the failure for the end of the process. So such a failure
// is reported to the failure of the database, which stops it, and Pebble is told that all went well. That is safe
// because nothing Pebble says afterwards is believed: whoever waits for a commit, a flush or a durable record
// asks the failure before he answers, and it is raised before Pebble goes on.
type writtenFile struct {
	vfs.File
	name    string
	failure *failure
	hides   hiding
}

// hiding says which failures Pebble does not see.
type hiding int

const (
	hidesNothing hiding = iota
	hidesWhileOpening
	hidesAlways
)

// hidden says whether Pebble is not to see a failure now.
func (f *failure) hidden(h hiding) bool {
	return h == hidesAlways || h == hidesWhileOpening && !f.isOpen()
}

// hide reports an error and returns what Pebble gets to see of it.
func (f *failure) hide(doing, name string, err error) error {
	f.take(fmt.Errorf("%s %s: %w", doing, name, err))
	return nil
}

// try runs a write unless the database has failed.
func (w *writtenFile) try(doing string, write func() error) error {
	if w.failure.raised.Load() {
		w.failure.take(nil)
		return nil
	}
	err := write()
	if err != nil && w.failure.hidden(w.hides) {
		return w.failure.hide(doing, w.name, err)
	}
	return err
}

// Write implements vfs.File.
func (w *writtenFile) Write(p []byte) (n int, err error) {
	n = len(p)
	err = w.try("write", func() (err error) {
		n, err = w.File.Write(p)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// WriteAt implements vfs.File.
func (w *writtenFile) WriteAt(p []byte, at int64) (n int, err error) {
	n = len(p)
	err = w.try("write", func() (err error) {
		n, err = w.File.WriteAt(p, at)
		return err
	})
	if err == nil {
		n = len(p)
	}
	return n, err
}

// Sync implements vfs.File.
func (w *writtenFile) Sync() error { return w.try("sync", w.File.Sync) }

// SyncData implements vfs.File.
func (w *writtenFile) SyncData() error { return w.try("sync", w.File.SyncData) }

// SyncTo implements vfs.File.
func (w *writtenFile) SyncTo(length int64) (fullSync bool, err error) {
	err = w.try("sync", func() (err error) {
		fullSync, err = w.File.SyncTo(length)
		return err
	})
	return fullSync, err
}

// Close implements vfs.File. The file is closed after a failure too.
func (w *writtenFile) Close() error {
	err := w.File.Close()
	if err != nil && w.failure.hidden(w.hides) {
		return w.failure.hide("close", w.name, err)
	}
	return err
}
