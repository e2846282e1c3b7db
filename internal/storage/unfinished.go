package storage

import (
	"errors"
	"fmt"
)

// ErrUnfinished is returned for a data directory that a restore has begun to write and not finished. It holds a part of a
// member, which must never serve.
var ErrUnfinished = errors.New("a restore into this directory did not finish")

// RestoringName is the file below the root that is there from the first to the last moment of a restore
// (docs/format/data-dir.md).
const RestoringName = "RESTORING"

// RebuildName is the file below the root that is there while the member's state is known to differ from the majority's
// (docs/decisions/recovery.md).
const RebuildName = "REBUILD"

// RestoredGuard is the name of the file that a restore leaves where etcd would have its log, so that etcd does not begin a new
// one over the database beside it (docs/format/data-dir.md).
const RestoredGuard = "restored-by-ashlar.wal"

// BeginRestore marks a data directory as unfinished, durably. REQUIRES: its lock is held.
func BeginRestore(fs FS, dataDir string) error {
	root := Root(dataDir)
	if err := writeFile(fs, fs.PathJoin(root, RestoringName), nil); err != nil {
		return err
	}
	return SyncDir(fs, root)
}

// EndRestore takes the mark away, durably: from now on the directory is that of a member.
func EndRestore(fs FS, dataDir string) error {
	root := Root(dataDir)
	if err := fs.Remove(fs.PathJoin(root, RestoringName)); err != nil {
		return fmt.Errorf("end the restore: %w", err)
	}
	return SyncDir(fs, root)
}

// CheckRestored returns an error that wraps ErrUnfinished and says what to do when the data directory is marked.
func CheckRestored(fs FS, dataDir string) error {
	there, err := Exists(fs, fs.PathJoin(Root(dataDir), RestoringName))
	if err == nil && there {
		err = fmt.Errorf("%w: %s; remove the directory and restore again", ErrUnfinished, dataDir)
	}
	return err
}
