package restore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrNotEmpty is returned for a directory that holds something.
var ErrNotEmpty = errors.New("the directory is not empty")

// generation is the number of a restored state.
const generation = 1

// guardText is in the file that lies where etcd would have its log, so that etcd does not begin a new one over the database file.
const guardText = "The data directory holds a restored member of Ashlar, below ashlar/. The database in member/snap is a copy for\n" +
	"scripts; etcd must not be started on it. Ashlar removes both when it starts.\n"

// Target says where to restore to, and as which member.
type Target struct {
	// DataDir must be empty or not exist; so must WALDir, the directory of the log, unless it is "".
	DataDir, WALDir string
	// Start is how the cluster begins.
	Start etcdfile.Start
	// Self is the restored member, one of the founding.
	Self cluster.ID
	// DatabaseFile also leaves the database in etcd's form, where etcd's tool leaves it (member/snap/db): for scripts that
	// look at it. The member does not read it.
	DatabaseFile bool
	// FS is the filesystem of the member's own files; nil is the real one. The database file is always on the real one.
	FS storage.FS
	// Logger takes what storage reports; nil discards it.
	Logger *slog.Logger
}

// Result says what was restored.
type Result struct {
	// Revision is the store's revision, Was the file's.
	Revision, Was int64
	// Identity is the member's.
	Identity storage.Identity
}

// Run restores the database to the target. It returns storage.ErrLocked for a directory in use, ErrNotEmpty for one that holds
// something, and an error that wraps etcdfile.ErrInvalid when the file is at fault. On an error it removes what it made.
func Run(ctx context.Context, f *etcdfile.File, t Target) (r Result, err error) {
	if t.FS == nil {
		t.FS = vfs.Default
	}
	if r.Was, err = f.Revision(); err != nil {
		return Result{}, err
	}
	r.Identity = storage.Identity{Format: storage.FormatVersion,
		ClusterID: uint64(t.Start.Founding.ID()), MemberID: uint64(t.Self)}
	if _, err := rand.Read(r.Identity.StoreID[:]); err != nil {
		return Result{}, fmt.Errorf("draw a store id: %w", err)
	}
	if err := t.empty(); err != nil {
		return Result{}, err
	}
	lock, err := storage.LockDir(t.FS, t.DataDir)
	if err != nil {
		return Result{}, err
	}
	// Once more: another restore, or a first start, may have come and gone, and undo would remove what it made.
	if err := t.empty(filepath.Base(storage.Root(t.DataDir)), storage.LockName); err != nil {
		return Result{}, errors.Join(err, lock.Close())
	}
	w := writer{Target: t, f: f, identity: r.Identity}
	r.Revision, err = w.write(ctx)
	if err != nil {
		return Result{}, errors.Join(fmt.Errorf("restore to %s: %w", t.DataDir, err), w.undo(lock))
	}
	return r, lock.Close()
}

// empty returns ErrNotEmpty if the target holds anything of other names, in the data directory or in our own below it.
func (t *Target) empty(but ...string) error {
	for _, dir := range []string{t.DataDir, storage.Root(t.DataDir), t.WALDir} {
		if dir == "" {
			continue
		}
		names, err := t.FS.List(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look into %s: %w", dir, err)
		}
		for _, name := range names {
			if !slices.Contains(but, name) {
				return fmt.Errorf("%w: %s holds %s", ErrNotEmpty, dir, name)
			}
		}
	}
	return nil
}

// writer writes one member.
type writer struct {
	Target
	f        *etcdfile.File
	identity storage.Identity
	// logged tells that the log in the target's place is this restore's: while the state is written, which takes long, another restore to
	// the same place may come, and even a start of what it has made.
	logged bool
}

// write does the steps of docs/format/data-dir.md between the two ends of the mark.
func (w *writer) write(ctx context.Context) (revision int64, err error) {
	if err := storage.BeginRestore(w.FS, w.DataDir); err != nil {
		return 0, err
	}
	if revision, err = w.state(ctx); err != nil {
		return 0, err
	}
	if err := w.log(); err != nil {
		return 0, err
	}
	if err := storage.WriteIdentityFile(w.FS, w.DataDir, w.identity); err != nil {
		return 0, err
	}
	if w.DatabaseFile {
		if err := w.databaseFile(ctx); err != nil {
			return 0, err
		}
	}
	return revision, storage.EndRestore(w.FS, w.DataDir)
}

func (w *writer) options() storage.Options {
	return storage.Options{FS: w.FS, Logger: w.Logger, Fatal: func(error) {}} // every call returns the failure, too
}

func (w *writer) state(ctx context.Context) (revision int64, err error) {
	db, err := storage.OpenState(storage.StateDir(w.DataDir, generation), w.options())
	if err != nil {
		return 0, err
	}
	defer func() {
		err = errors.Join(err, db.Close()) // which flushes
		if err == nil {
			err = storage.SyncDir(w.FS, storage.Root(w.DataDir))
		}
	}()
	if revision, err = w.f.BuildStart(ctx, db, w.Start); err != nil {
		return 0, err
	}
	// Loading it counts the keys and writes what the first start would have to find out.
	if _, err := mvcc.Open(db); err != nil {
		return 0, err
	}
	b := db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	key := storage.AppendPlainKey(nil, storage.SpaceMeta, []byte(storage.IdentityName))
	if err := b.Set(key, w.identity.OfState().Encode(), nil); err != nil {
		return 0, fmt.Errorf("stamp the state: %w", err)
	}
	return revision, db.Commit(b)
}

// log writes a log without entries, whose mark is the founding.
func (w *writer) log() (err error) {
	l, err := raftlog.Open(storage.LogDir(w.DataDir, w.WALDir), raftlog.Options{Storage: w.options()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if l.Initialised() {
		return fmt.Errorf("%w: %s holds a log", ErrNotEmpty, storage.LogDir(w.DataDir, w.WALDir))
	}
	w.logged = true
	if err := l.Bootstrap(w.identity, raftlog.HardState{}, nil, generation); err != nil {
		return err
	}
	mark := raftlog.Mark{Index: w.Start.Index(), Term: etcdfile.FoundingTerm, Generation: generation}
	return l.Install(mark, raftlog.HardState{Term: mark.Term, Commit: mark.Index}, nil)
}

// databaseFile writes etcd's database.
func (w *writer) databaseFile(ctx context.Context) error {
	snap := filepath.Join(w.DataDir, "member", "snap")
	if err := os.MkdirAll(snap, 0o700); err != nil {
		return fmt.Errorf("make the directory of the database file: %w", err)
	}
	if err := w.f.WriteStart(ctx, filepath.Join(snap, "db"), w.Start); err != nil {
		return err
	}
	wal := w.WALDir
	if wal == "" {
		wal = filepath.Join(w.DataDir, "member", "wal")
		if err := os.Mkdir(wal, 0o700); err != nil {
			return fmt.Errorf("make the directory of the guard: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(wal, storage.RestoredGuard), []byte(guardText), 0o600); err != nil {
		return fmt.Errorf("write the guard: %w", err)
	}
	for _, dir := range []string{snap, wal, filepath.Dir(snap), w.DataDir} {
		if err := storage.SyncDir(vfs.Default, dir); err != nil {
			return err
		}
	}
	return nil
}

// undo removes what a restore that failed has made. The data directory itself stays, since it may have been there. The mark goes
// last: if this breaks off, too, what is left must not pass for a member.
func (w *writer) undo(lock io.Closer) error {
	err := lock.Close()
	var dirs []string
	root := storage.Root(w.DataDir)
	names, lerr := w.FS.List(root)
	if lerr != nil && !errors.Is(lerr, os.ErrNotExist) {
		err = errors.Join(err, lerr)
	}
	for _, name := range names {
		if name != storage.RestoringName {
			dirs = append(dirs, w.FS.PathJoin(root, name))
		}
	}
	if w.WALDir != "" && w.logged {
		dirs = append(dirs, w.WALDir)
	}
	rerr := w.removeAll(dirs)
	if w.DatabaseFile {
		rerr = errors.Join(rerr, os.RemoveAll(filepath.Join(w.DataDir, "member")))
	}
	if rerr == nil && len(names) > 0 {
		rerr = storage.SyncDir(w.FS, root)
	}
	if rerr == nil {
		rerr = w.removeAll([]string{root})
	}
	return errors.Join(err, rerr)
}

// removeAll removes those of the directories that are there.
func (w *writer) removeAll(dirs []string) (err error) {
	for _, dir := range dirs {
		if rerr := w.FS.RemoveAll(dir); !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}
