package storage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// LockLog takes the lock of the directory of a raft log; closing the result gives it back. It makes the directory first, unless
// readOnly says that it must be there. The error wraps ErrLocked when another process has it.
func LockLog(fs FS, dir string, readOnly bool) (io.Closer, error) {
	if readOnly {
		if _, err := fs.Stat(dir); err != nil {
			return nil, fmt.Errorf("open %s read-only: %w", dir, err)
		}
	} else if err := MakeDirs(fs, dir); err != nil {
		return nil, err
	}
	l, err := fs.Lock(fs.PathJoin(dir, LockName))
	if err != nil {
		return nil, lockError(dir, err)
	}
	return l, nil
}

// Names of the files of a raft log in Pebble. The guard has the name of the marker that tells the format of a database, with a
// format that there will not be: it keeps releases that had the log in Pebble from making a new one beside the segments.
const (
	markerPrefix   = "marker."
	manifestPrefix = "MANIFEST-"
	logGuardName   = "marker.format-version.999999.999"
	pebbleLogs     = ".log"
	pebbleOptions  = "OPTIONS-"
)

// GuardLog makes the directory of a log one that earlier releases cannot open, durably.
func GuardLog(fs FS, dir string) error {
	name := fs.PathJoin(dir, logGuardName)
	if there, err := Exists(fs, name); err != nil || there {
		return err
	}
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return SyncDir(fs, dir)
}

// LogGuarded tells whether GuardLog's file is among the names in the directory of a log.
func LogGuarded(names []string) bool { return slices.Contains(names, logGuardName) }

// PebbleLogFiles returns those of the names in the directory of a log that a log in Pebble has.
func PebbleLogFiles(names []string) (files []string) {
	for _, name := range names {
		switch {
		case name == logGuardName:
		case strings.HasPrefix(name, markerPrefix), strings.HasPrefix(name, manifestPrefix), strings.HasPrefix(name, pebbleOptions),
			strings.HasSuffix(name, pebbleLogs) && isNumber(strings.TrimSuffix(name, pebbleLogs)),
			strings.HasSuffix(name, tableSuffix) && isNumber(strings.TrimSuffix(name, tableSuffix)),
			strings.HasSuffix(name, ".dbtmp"):
			files = append(files, name)
		}
	}
	slices.Sort(files)
	return files
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// OpenPebbleLog opens the log in Pebble that an earlier release has left in the directory, for reading alone; nil if there is none. The
// errors are those of OpenState. REQUIRES: the lock of the directory is held, and kept until the log is closed.
func OpenPebbleLog(dir string, o Options) (*DB, error) {
	o = o.withDefaults(logCacheBytes, logMemTableBytes)
	o.FS, o.ReadOnly = lockedFS{o.FS}, true
	desc, err := pebble.Peek(dir, o.FS)
	if err != nil {
		return nil, explain(dir, "looking for a database", err)
	}
	if !desc.Exists {
		return nil, checkNothing(dir, o.FS)
	}
	if err := checkWALs(o.FS, dir); err != nil {
		return nil, err
	}
	db, _, err := openLocked(dir, o, logOptions(o), nil, databaseLock{file: heldLock{}})
	return db, err
}

// checkNothing returns an error when a directory without a manifest has what only a database in use leaves.
func checkNothing(dir string, fs FS) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range PebbleLogFiles(names) {
		used := strings.HasSuffix(name, tableSuffix)
		if strings.HasSuffix(name, pebbleLogs) {
			info, err := fs.Stat(fs.PathJoin(dir, name))
			if err != nil {
				return fmt.Errorf("look at %s: %w", name, err)
			}
			used = info.Size() > 0
		}
		if used {
			return Corruptf(dir, "there is %s, but no manifest that it belongs to", name)
		}
	}
	return nil
}

// lockedFS is for a directory whose lock is held.
type lockedFS struct{ FS }

// Lock implements vfs.FS.
func (lockedFS) Lock(string) (io.Closer, error) { return heldLock{}, nil }

// heldLock is given back by somebody else.
type heldLock struct{}

// Close implements io.Closer.
func (heldLock) Close() error { return nil }
