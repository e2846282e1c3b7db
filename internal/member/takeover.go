package member

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/takeover"
)

// lookForEtcd tells what of etcd's is there to be taken over. Beside a member of ours only the end of a take-over is allowed, and
// brought about.
func (m *Member) lookForEtcd(ours bool) (takeover.Found, error) {
	if m.cfg.Etcd == nil {
		return takeover.Nothing, nil
	}
	found, err := m.cfg.Etcd.Look()
	if err != nil {
		return found, err
	}
	dir := m.cfg.DataDir
	switch {
	case ours && found == takeover.Member:
		return found, fmt.Errorf("%w: %s holds both a member of ours, in %s, and one of etcd, in member/: only one of them knows what was "+
			"promised last, so remove the other, or both and add the member anew", ErrRefused, dir, storage.Root(dir))
	case m.log.Initialised() && found == takeover.Claimed:
		return takeover.Nothing, m.cfg.Etcd.Finish()
	case ours:
		return takeover.Nothing, nil
	case found == takeover.Taken:
		return found, fmt.Errorf("%w: %s was taken over from etcd, but what was made of it is not in %s: restore it, or remove the whole "+
			"data directory and add the member anew", ErrRefused, dir, storage.Root(dir))
	case found == takeover.Restored:
		return found, fmt.Errorf("%w: %s holds the copy in etcd's form that a restore has left, but not the member that it made, in %s/ beside it: "+
			"empty the directory and bring all that the restore made, or restore to it", ErrRefused, dir, filepath.Base(storage.Root(dir)))
	}
	return found, nil
}

// takeOver makes this member of one of etcd: the state, the staged log, the guard against etcd, and then the log's one batch,
// which is the commit point.
func (m *Member) takeOver(found takeover.Found) (err error) {
	ctx := context.Background()
	start := time.Now()
	s, err := takeover.Open(ctx, *m.cfg.Etcd, found)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m.identity = storage.Identity{Format: storage.FormatVersion, ClusterID: s.ClusterID, MemberID: s.MemberID}
	if _, err := rand.Read(m.identity.StoreID[:]); err != nil {
		return fmt.Errorf("draw a store id: %w", err)
	}
	hs := s.HardState()
	m.cfg.Logger.Info("taking over a member of etcd", "data-dir", m.cfg.Etcd.DataDir, "member", cluster.ID(s.MemberID).String(),
		"cluster", cluster.ID(s.ClusterID).String(), "applied", s.Index, "term", hs.Term, "commit", hs.Commit, "last", s.Last())
	if err := m.buildTaken(ctx, s); err != nil {
		return err
	}
	adoption, err := m.log.Adopt()
	if err != nil {
		return err
	}
	mark, err := s.Stage(ctx, adoption, m.cfg.SnapshotCatchUpEntries)
	if err != nil {
		return err
	}
	mark.Generation = firstGeneration
	if err := s.Claim(); err != nil {
		return err
	}
	if err := adoption.Commit(m.identity, hs, mark); err != nil {
		return err
	}
	m.cfg.Logger.Info("took over a member of etcd", "took", time.Since(start), "first", mark.Index+1, "last", m.log.LastIndex())
	return m.cfg.Etcd.Finish()
}

// buildTaken builds the first generation from etcd's database, durable.
func (m *Member) buildTaken(ctx context.Context, s *takeover.Source) error {
	if err := m.removeGenerations(0); err != nil {
		return err
	}
	db, err := createGeneration(m.cfg.FS, m.cfg.DataDir, firstGeneration, m.identity, m.stateOptions())
	if err != nil {
		return err
	}
	err = s.Build(ctx, db)
	if err == nil {
		err = db.Flush()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("build the state: %w", err)
	}
	return storage.SyncDir(m.cfg.FS, storage.Root(m.cfg.DataDir))
}
