package member

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// removeRestored removes the copy, in etcd's form, that a restore left beside this member: from the first start on it is out of
// date, and whoever took it for the member's database would be wrong. The guard goes last.
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
	m.cfg.Logger.Info("removing the copy that restoring left", "directory", member)
	for _, name := range []string{fs.PathJoin(member, "snap"), guard, member} {
		if err := fs.RemoveAll(name); err != nil {
			return fmt.Errorf("remove the copy that restoring left: %w", err)
		}
	}
	return storage.SyncDir(fs, m.cfg.DataDir)
}
