package offline

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrRefused is wrapped by errors that say that a directory is not that of one whole member.
var ErrRefused = errors.New("the data directory cannot be used")

// ErrNone is returned for a directory that holds no member of ours.
var ErrNone = errors.New("there is no member of Ashlar in this directory")

// Directory is the opened data directory of a member that does not run. It belongs to one goroutine.
type Directory struct {
	DataDir, LogDir string
	// Identity is the member's.
	Identity storage.Identity
	// State is the state that the log names, Log the log. Both are read-only.
	State *storage.DB
	Log   *raftlog.Log
	// Applied is the last entry whose effect the state has.
	Applied uint64
	// Untrusted says that the state was found to differ from the majority's, and has not been found to agree with it since.
	Untrusted bool

	lock io.Closer
}

// Exists tells whether a directory holds a member of ours, or a part of one. What a start has begun beside a member of etcd that it then did not
// take over is none: etcd's database has another name before our log is one.
func Exists(dataDir string) (bool, error) {
	there, err := storage.Exists(vfs.Default, storage.Root(dataDir))
	if err != nil || !there {
		return there, err
	}
	if _, err := os.Stat(filepath.Join(dataDir, "member", "snap", "db")); err != nil {
		return true, nil
	}
	_, known, err := storage.ReadIdentityFile(vfs.Default, dataDir)
	return known || err != nil || storage.CheckRestored(vfs.Default, dataDir) != nil, nil
}

// Lock takes the lock of a data directory that holds a member of ours. Errors are ErrNone, storage.ErrLocked and
// storage.ErrUnfinished.
func Lock(dataDir string) (io.Closer, error) {
	there, err := Exists(dataDir)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("%w: %s", ErrNone, dataDir)
	}
	lock, err := storage.LockDir(vfs.Default, dataDir)
	if err != nil {
		return nil, err
	}
	if err := storage.CheckRestored(vfs.Default, dataDir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// Open opens the directory; walDir is "" where the log is in its usual place. Besides those of Lock and ErrRefused, errors
// wrap storage.ErrCorrupt and storage.ErrNewerFormat.
func Open(dataDir, walDir string, log *slog.Logger) (_ *Directory, err error) {
	d := &Directory{DataDir: dataDir, LogDir: storage.LogDir(dataDir, walDir)}
	if d.lock, err = Lock(dataDir); err != nil {
		return nil, err
	}
	if err := d.open(log); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close gives the directory free.
func (d *Directory) Close() error {
	var errs []error
	if d.State != nil {
		errs = append(errs, d.State.Close())
	}
	if d.Log != nil {
		errs = append(errs, d.Log.Close())
	}
	return errors.Join(append(errs, d.lock.Close())...)
}

func (d *Directory) open(log *slog.Logger) error {
	o := storage.Options{ReadOnly: true, Logger: log, Fatal: func(error) {}} // every call returns the failure, too
	identity, known, err := storage.ReadIdentityFile(vfs.Default, d.DataDir)
	if err != nil {
		return err
	}
	if d.Untrusted, err = storage.Exists(vfs.Default, d.mark()); err != nil {
		return err
	}
	there, err := storage.Exists(vfs.Default, d.LogDir)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: %s has no log in %s: it lies elsewhere (--wal-dir), or was lost", ErrRefused, d.DataDir, d.LogDir)
	}
	if d.Log, err = raftlog.Open(d.LogDir, raftlog.Options{Storage: o}); err != nil {
		return err
	}
	if !d.Log.Initialised() {
		return fmt.Errorf("%w: the log in %s is empty", ErrRefused, d.LogDir)
	}
	if d.Identity = d.Log.Identity(); known && identity != d.Identity {
		return fmt.Errorf("%w: the log in %s and the directory %s belong to different members", ErrRefused, d.LogDir, d.DataDir)
	}
	return d.openState(o)
}

// mark returns the path of the file that says Untrusted.
func (d *Directory) mark() string { return filepath.Join(storage.Root(d.DataDir), storage.RebuildName) }

// ErrUntrusted is wrapped by CheckTrusted's error.
var ErrUntrusted = errors.New("the state of this member was found to differ from the majority's, and may be wrong")

// CheckTrusted returns an error that wraps ErrUntrusted and says what to do when the state is Untrusted.
func (d *Directory) CheckTrusted() error {
	if !d.Untrusted {
		return nil
	}
	return fmt.Errorf("%w: %s; start it, so that it gets theirs, or take another member, or remove %s if all others are gone for good and this "+
		"state is to be taken for right", ErrUntrusted, d.DataDir, d.mark())
}

func (d *Directory) openState(o storage.Options) error {
	dir := storage.StateDir(d.DataDir, d.Log.Mark().Generation)
	there, err := storage.Exists(vfs.Default, dir)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: the log %s names the state %s, which is not there", ErrRefused, d.LogDir, dir)
	}
	if d.State, err = storage.OpenState(dir, o); err != nil {
		return err
	}
	var stamped storage.Identity
	key := storage.AppendPlainKey(nil, storage.SpaceMeta, []byte(storage.IdentityName))
	found, err := d.State.Get(key, func(v []byte) (err error) { stamped, err = storage.DecodeStateIdentity(v); return err })
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	c, err := etcdfile.Read(d.State)
	if err != nil {
		return err
	}
	d.Applied = c.Index
	if err := c.Close(); err != nil {
		return err
	}
	switch {
	case !found:
		return fmt.Errorf("%w: the state %s has no identity: it was never completed", ErrRefused, dir)
	case !stamped.Same(d.Identity):
		return fmt.Errorf("%w: the state %s and the log %s belong to different members", ErrRefused, dir, d.LogDir)
	case d.Applied > d.Log.LastIndex():
		return fmt.Errorf("%w: the state %s has applied entry %d, but the log %s ends at %d: the log is older or damaged",
			ErrRefused, dir, d.Applied, d.LogDir, d.Log.LastIndex())
	case d.Applied < d.Log.Mark().Index:
		return fmt.Errorf("%w: the state %s has applied entry %d, but the log %s begins at %d: the state is older or damaged",
			ErrRefused, dir, d.Applied, d.LogDir, d.Log.FirstIndex())
	}
	return nil
}

// Behind returns how many committed entries the state does not have: none after a clean stop.
func (d *Directory) Behind() uint64 {
	commit := d.Log.HardState().Commit
	return max(commit, d.Applied) - d.Applied
}
