package member

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/auth"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// idleIterators is after how long those iterators of the state are closed that no read has taken by then.
const idleIterators = 50 * time.Millisecond

// generation is one state database and everything loaded from it.
type generation struct {
	number   uint64
	db       *storage.DB
	identity storage.Identity
	store    *mvcc.Store
	members  *cluster.Membership
	leases   *lease.Table
	alarms   *cluster.Alarms
	accounts *auth.Table
	chain    *apply.Chain
	machine  *apply.Machine
}

var identityKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("identity"))

// createGeneration makes an empty state with its identity, durable.
func createGeneration(fs storage.FS, dataDir string, number uint64, id storage.Identity, o storage.Options) (*storage.DB, error) {
	dir := storage.StateDir(dataDir, number)
	db, err := storage.OpenState(dir, o)
	if err != nil {
		return nil, err
	}
	if err := stampIdentity(db, id.OfState()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := storage.SyncDir(fs, storage.Root(dataDir)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// stampIdentity gives a state its identity, which is durable then.
func stampIdentity(db *storage.DB, id storage.Identity) error {
	b := db.NewBatch()
	defer func() { _ = b.Close() }() // a committed batch closes without error
	if err := b.Set(identityKey, id.Encode(), nil); err != nil {
		return fmt.Errorf("stamp the state: %w", err)
	}
	if err := db.Commit(b); err != nil {
		return fmt.Errorf("stamp the state: %w", err)
	}
	return db.Flush()
}

// raise makes a state of an earlier format one of this release's, durably and before anything is written that the earlier
// format does not have: a release that does not know it refuses the state from then on. What is in it stays as it is.
func (g *generation) raise() error {
	if g.identity.Format >= storage.StateFormat {
		return nil
	}
	g.identity = g.identity.OfState()
	return stampIdentity(g.db, g.identity)
}

func (m *Member) openGeneration(number uint64) (*generation, error) {
	dir := storage.StateDir(m.cfg.DataDir, number)
	db, err := storage.OpenState(dir, m.stateOptions())
	if err != nil {
		return nil, err
	}
	g, err := m.loadGeneration(number, db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load the state %s: %w", dir, err), db.Close())
	}
	m.serve(g)
	return g, nil
}

// serve lets a generation tell the member of what happens to it, before it becomes the present one.
func (m *Member) serve(g *generation) {
	g.leases.Observe(m.lessor.noticed)
	g.accounts.Observe(m.logins.happened)
	g.store.KeepIterators(func(f func()) { m.cfg.Clock.AfterFunc(idleIterators, f) })
	if m.cfg.KeepCompactHashes {
		g.store.KeepHashes()
	}
}

// loadGeneration loads what a state has in memory.
func (m *Member) loadGeneration(number uint64, db *storage.DB) (*generation, error) {
	g := &generation{number: number, db: db}
	found, err := db.Get(identityKey, func(v []byte) (err error) {
		g.identity, err = storage.DecodeStateIdentity(v)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("%w: no identity record: it was never completed", storage.ErrCorrupt)
	}
	if g.store, err = mvcc.Open(db); err != nil {
		return nil, err
	}
	if g.members, err = cluster.Load(db); err != nil {
		return nil, err
	}
	if g.leases, err = lease.Load(db); err != nil {
		return nil, err
	}
	if g.alarms, err = cluster.LoadAlarms(db); err != nil {
		return nil, err
	}
	if g.accounts, err = auth.Load(db); err != nil {
		return nil, err
	}
	applied, _ := g.store.Applied()
	if g.chain, err = apply.LoadChain(db, applied); err != nil {
		return nil, err
	}
	g.machine = apply.New(apply.Parts{
		Store: g.store, Members: g.members, Leases: g.leases, Alarms: g.alarms, Accounts: g.accounts, Chain: g.chain,
		Published: m.changed, MaxLearners: m.cfg.MaxLearners,
		Counts: m.measures.Operations, Carried: m.tallies.add,
	})
	return g, nil
}

func (g *generation) confState() (*raftpb.ConfState, error) { return apply.LoadConfState(g.db) }

// hold returns the present generation, which stays open until its store is released. It returns ErrStopped once the member has
// closed its last one.
func (m *Member) hold() (*generation, error) {
	for {
		g := m.gen.Load()
		if g.store.Hold() == nil {
			return g, nil
		}
		if m.gone.Load() {
			return nil, ErrStopped
		}
		// It was replaced between the two lines; the new one is there.
	}
}

// held calls f with the present generation, which stays open meanwhile, and once more if that was replaced before f could read it. It returns
// ErrStopped as hold does.
func (m *Member) held(f func(*generation) error) error {
	for {
		g, err := m.hold()
		if err != nil {
			return err
		}
		if err := release(g, f); !errors.Is(err, mvcc.ErrRetired) {
			return err
		}
	}
}

// release calls f with a generation that is held, and releases it.
func release(g *generation, f func(*generation) error) error {
	defer g.store.Release()
	return f(g)
}

// close flushes and closes the database. No view may be open any more.
func (g *generation) close() error { return g.db.Close() }
