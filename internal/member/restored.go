package member

import (
	"errors"
	"fmt"
	"os"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// removeRestored removes the copy, in etcd's form, that a restore left beside this member: from the first start on it is out of
// date, and whoever took it for the member's database would be wrong. The guard goes when no crash brings the database back, which it may be
// on another disk than: a database without it is refused as that of a member whose log is missing.
func (m *Member) removeRestored() error {
	fs := m.cfg.FS
	member := fs.PathJoin(m.cfg.DataDir, "member")
	walDir := m.cfg.WALDir
	if walDir == "" {
		walDir = fs.PathJoin(member, "wal")
	}
	guard := fs.PathJoin(walDir, storage.RestoredGuard)
	if there, err := storage.Exists(fs, guard); err != nil || !there {
		return err
	}
	// A member that was restored has its copy removed, durably, before it knows of another term.
	if there, err := storage.Exists(fs, fs.PathJoin(member, "snap", "db")); err != nil {
		return err
	} else if there && m.log.HardState().Term > etcdfile.FoundingTerm {
		return fmt.Errorf("%w: %s is the copy of a member that was restored elsewhere, and the one in %s is another, which has run before: "+
			"put the restored one in its place, or remove the copy", ErrRefused, member, storage.Root(m.cfg.DataDir))
	}
	m.cfg.Logger.Info("removing the copy that restoring left", "directory", member)
	err := fs.RemoveAll(fs.PathJoin(member, "snap"))
	if err == nil {
		if err = storage.SyncDir(fs, member); errors.Is(err, os.ErrNotExist) {
			err = nil // somebody else has removed all of it
		}
	}
	for _, name := range []string{guard, member} {
		if err == nil {
			err = fs.RemoveAll(name)
		}
	}
	if err != nil {
		return fmt.Errorf("remove the copy that restoring left: %w", err)
	}
	return storage.SyncDir(fs, m.cfg.DataDir)
}
