package member

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/takeover"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrRefused is wrapped by errors that say: log, state and IDENTITY do not belong
// together, or one of them is missing; no state was changed. Damage within one of them is
// storage.ErrCorrupt, a newer format storage.ErrNewerFormat.
var ErrRefused = errors.New("member: refusing to start")

// sealAfter is how long the log may be idle before it proves what it has synced.
const sealAfter = time.Second

// firstGeneration is the generation of a founded member's state.
const firstGeneration = 1

// openStores does the steps of docs/decisions/recovery.md up to the opened state.
func (m *Member) openStores() (err error) {
	if m.cfg.FS == nil {
		m.cfg.FS = vfs.Default
	}
	dir := m.cfg.DataDir
	if m.lock, err = storage.LockDir(m.cfg.FS, dir); err != nil {
		return err
	}
	if err := storage.CheckRestored(m.cfg.FS, dir); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := m.removeExports(); err != nil {
		return err
	}
	identity, known, err := storage.ReadIdentityFile(m.cfg.FS, dir)
	if err != nil {
		return err
	}
	if m.cfg.Etcd != nil {
		if err := m.cfg.Etcd.Check(); err != nil {
			return err
		}
	}
	logDir := storage.LogDir(dir, m.cfg.WALDir)
	if m.log, err = raftlog.Open(logDir, m.logOptions()); err != nil {
		return err
	}
	etcd, err := m.lookForEtcd(known || m.log.Initialised())
	if err != nil {
		return err
	}
	if known {
		err = m.recognise(identity, logDir)
	} else {
		err = m.initialise(etcd)
	}
	if err != nil {
		return err
	}
	if err := m.openState(); err != nil {
		return err
	}
	if !known {
		return storage.WriteIdentityFile(m.cfg.FS, dir, m.identity)
	}
	return m.removeRestored()
}

// recognise takes the identity of the log, which must be that of the directory.
func (m *Member) recognise(identity storage.Identity, logDir string) error {
	switch {
	case !m.log.Initialised():
		return fmt.Errorf("%w: %s says that this member was initialised, but the log in %s is empty: "+
			"restore the log, or remove the data directory and add the member anew", ErrRefused, m.cfg.DataDir, logDir)
	case identity != m.log.Identity():
		return fmt.Errorf("%w: the log in %s and the directory %s belong to different members", ErrRefused, logDir, m.cfg.DataDir)
	}
	m.identity = identity
	return nil
}

// initialise makes the member that the directory does not name yet. When only that is missing, a start has broken off after the log was there.
func (m *Member) initialise(etcd takeover.Found) error {
	switch {
	case m.log.Initialised():
		m.identity = m.log.Identity()
	case etcd != takeover.Nothing:
		if err := m.takeOver(etcd); err != nil {
			return fmt.Errorf("take over the member of etcd in %s: %w", m.cfg.DataDir, err)
		}
	default:
		if err := m.bootstrap(); err != nil {
			return fmt.Errorf("bootstrap in %s: %w", m.cfg.DataDir, err)
		}
	}
	return nil
}

func (m *Member) logOptions() raftlog.Options {
	return raftlog.Options{
		Storage:   storage.Options{FS: m.cfg.FS, Logger: m.cfg.Logger, Fatal: m.fatal},
		NoSync:    m.cfg.NoSync,
		Clock:     m.cfg.Clock,
		SealAfter: sealAfter,
	}
}

func (m *Member) stateOptions() storage.Options {
	return storage.Options{
		FS: m.cfg.FS, Logger: m.cfg.Logger, Fatal: m.fatal,
		OnFlush: m.durable.onFlush, Measures: m.measures.State, Asked: m.askedOnceReady,
	}
}

// bootstrap founds the member: the state first, then the log's one batch, which
// is the commit point.
func (m *Member) bootstrap() error {
	begin, err := m.beginning()
	if err != nil {
		return err
	}
	m.identity = begin.identity
	if _, err := rand.Read(m.identity.StoreID[:]); err != nil {
		return fmt.Errorf("draw a store id: %w", err)
	}
	if err := m.checkNothingApplied(); err != nil {
		return err
	}
	if err := m.removeGenerations(0); err != nil {
		return err
	}
	g, err := createGeneration(m.cfg.FS, m.cfg.DataDir, firstGeneration, m.identity, m.stateOptions())
	if err != nil {
		return err
	}
	if err := g.Close(); err != nil {
		return fmt.Errorf("close the new state: %w", err)
	}
	return m.log.Bootstrap(m.identity, begin.hs, begin.entries, firstGeneration)
}

// checkNothingApplied refuses to found a member over a state that was in use,
// which can be there only if both the log and IDENTITY were lost.
func (m *Member) checkNothingApplied() error {
	all, err := storage.ListGenerations(m.cfg.FS, m.cfg.DataDir)
	if err != nil {
		return err
	}
	for _, number := range all {
		dir := storage.StateDir(m.cfg.DataDir, number)
		db, err := storage.OpenState(dir, m.stateOptions())
		if err != nil {
			return err
		}
		applied, err := mvcc.DurableApplied(db)
		if err = errors.Join(err, db.Close()); err != nil {
			return err
		}
		if applied > 0 {
			return fmt.Errorf("%w: %s holds a state with entry %d applied, but there is neither an IDENTITY file nor a log: "+
				"restore them, or remove the data directory and add the member anew", ErrRefused, dir, applied)
		}
	}
	return nil
}

// openState opens the generation that the log names and checks that the two belong
// together.
func (m *Member) openState() error {
	mark := m.log.Mark()
	dir := storage.StateDir(m.cfg.DataDir, mark.Generation)
	if _, err := m.cfg.FS.Stat(dir); err != nil {
		return fmt.Errorf("%w: the log names the state %s, which cannot be read (%w): "+
			"restore it, or remove the data directory and add the member anew", ErrRefused, dir, err)
	}
	g, err := m.openGeneration(mark.Generation)
	if err != nil {
		return err
	}
	m.gen.Store(g)
	applied, _ := g.store.Applied()
	logDir := storage.LogDir(m.cfg.DataDir, m.cfg.WALDir)
	switch {
	case !g.identity.Same(m.identity):
		return fmt.Errorf("%w: the state %s and the log %s belong to different members", ErrRefused, dir, logDir)
	case applied > m.log.LastIndex():
		return fmt.Errorf("%w: the state %s has applied entry %d, but the log %s ends at %d: the log is older or damaged",
			ErrRefused, dir, applied, logDir, m.log.LastIndex())
	case applied < mark.Index:
		return fmt.Errorf("%w: the state %s has applied entry %d, but the log %s begins at %d: the state is older or damaged",
			ErrRefused, dir, applied, logDir, mark.Index+1)
	}
	if g.members.IsRemoved(m.self()) {
		return fmt.Errorf("%w: the data directory %s must be removed", ErrRemoved, m.cfg.DataDir)
	}
	if err := g.raise(); err != nil {
		return err
	}
	// Only now is it sure that no other generation will be missed.
	return m.removeGenerations(mark.Generation)
}

// removeGenerations removes every state directory but the one to keep.
func (m *Member) removeGenerations(keep uint64) error {
	all, err := storage.ListGenerations(m.cfg.FS, m.cfg.DataDir)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g == keep {
			continue
		}
		m.cfg.Logger.Info("removing a state that the log does not name",
			"directory", path.Base(storage.StateDir(m.cfg.DataDir, g)))
		if err := storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, g); err != nil {
			return err
		}
	}
	return nil
}

// closeStores closes whatever is open, the state flushed first, when nobody reads it any more.
func (m *Member) closeStores() error {
	var errs []error
	if g := m.gen.Load(); g != nil {
		m.gone.Store(true)
		closed := make(chan error, 1)
		g.store.Retire(func() { closed <- g.close() })
		errs = append(errs, <-closed)
	}
	if g := m.incoming.ready; g != nil {
		errs = append(errs, g.close()) // built, and never installed: the next start removes it
	}
	if m.log != nil {
		errs = append(errs, m.log.Close())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.Close())
	}
	return errors.Join(errs...)
}
