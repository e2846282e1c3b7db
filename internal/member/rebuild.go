package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrUntrusted is returned, or wrapped, where an answer would come from a state that is known to differ from the majority's.
var ErrUntrusted = errors.New("member: the state differs from the majority's and is being rebuilt")

const (
	// rebuildRetry is how long a rebuild that failed waits before it begins again, rebuildWait how often it looks whether the
	// log has come as far as the state.
	rebuildRetry = time.Second
	rebuildWait  = 50 * time.Millisecond
	// rebuildGiveWay is how often it waits for a snapshot that it gave way to.
	rebuildGiveWay = 200
	// rebuildMark is the file that marks a member whose state is wrong.
	rebuildMark = storage.RebuildName
	// rebuildMarkBytes bounds what is read of it.
	rebuildMarkBytes = 64
)

// errUnsure says that nobody may get this state, since it may be wrong.
var errUnsure = errors.New("the members' states differ, and it is not known whether this one is right")

// errNoMajority says that no majority of voters has one state, so that nobody can be asked for it.
var errNoMajority = errors.New("no majority of voters is known to have one state")

// errBehind says that the entries up to the new state's are gone from the leader's log, so that only a snapshot brings them.
var errBehind = errors.New("this member is so far behind that the leader sends it a snapshot")

// rebuild replaces a state that is wrong, step by step as docs/decisions/recovery.md says.
type rebuild struct {
	m         *Member
	untrusted atomic.Bool
	wrong     atomic.Uint64 // the generation that the mark names, 0 without a mark
	behind    atomic.Bool   // a snapshot was refused since the present try began

	built   chan struct{} // closed when fresh is whole, and the log has come as far
	doubted chan struct{} // capacity 1: the state was found to be wrong

	// Of step alone, until built is closed.
	fresh  *generation // fetched and closed, waiting for the log; nil when there is none
	yields int         // how many steps a snapshot has yet that it gave way to
}

// init reads the mark. REQUIRES: the stores are open.
func (r *rebuild) init(m *Member) error {
	r.m, r.built, r.doubted = m, make(chan struct{}), make(chan struct{}, 1)
	f, err := m.cfg.FS.Open(r.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the mark of a rebuild: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, rebuildMarkBytes))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read the mark of a rebuild: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(string(b)), "generation="), 10, 64)
	if err != nil || n == 0 {
		n = m.log.Mark().Generation // the mark is there: what it says in doubt is that this state is wrong
	}
	r.wrong.Store(n)
	r.untrusted.Store(true)
	m.cfg.Logger.Warn("this member's state was found to differ from the majority's: no client is served before it agrees",
		"wrong", n, "generation", m.log.Mark().Generation)
	return nil
}

func (r *rebuild) path() string {
	return r.m.cfg.FS.PathJoin(storage.Root(r.m.cfg.DataDir), rebuildMark)
}

// marked says whether there is a mark.
func (r *rebuild) marked() bool { return r.wrong.Load() != 0 }

// pending says whether the mark names the present state.
func (r *rebuild) pending() bool { return r.marked() && r.wrong.Load() == r.m.gen.Load().number }

// begin ends the trust in the state of that number. The member ends when it cannot note that.
func (r *rebuild) begin(number uint64) {
	r.distrust()
	if err := r.mark(number); err != nil {
		r.m.fatal(fmt.Errorf("mark the state as wrong: %w", err))
		return
	}
	r.wrong.Store(number)
}

// distrust ends what is answered from the state.
func (r *rebuild) distrust() {
	r.untrusted.Store(true)
	select {
	case r.doubted <- struct{}{}:
	default:
	}
}

// mark writes the mark, durable.
func (r *rebuild) mark(number uint64) error {
	disk, path := r.m.cfg.FS, r.path()
	f, err := disk.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "generation=%d\n", number)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(path+".tmp", path); err != nil {
		return err
	}
	return storage.SyncDir(disk, storage.Root(r.m.cfg.DataDir))
}

// done ends a rebuild: the state agrees with the majority's. It is called again until it has succeeded.
func (r *rebuild) done() {
	m := r.m
	err := m.cfg.FS.Remove(r.path())
	if err == nil || errors.Is(err, fs.ErrNotExist) { // the directory may not have been synced at the first try
		err = storage.SyncDir(m.cfg.FS, storage.Root(m.cfg.DataDir))
	}
	if err != nil {
		m.cfg.Logger.Warn("cannot end the rebuild yet", "error", err)
		return
	}
	r.wrong.Store(0)
	r.untrusted.Store(false)
	m.cfg.Logger.Info("this member's state agrees with the majority's again")
}

// step does what a rebuild can do without waiting. It returns how long to wait before the next step, and whether none follows: a whole
// state waits, which Stop makes the log name. REQUIRES: pending.
func (r *rebuild) step(ctx context.Context) (wait time.Duration, whole bool) {
	if r.fresh == nil {
		if r.yields > 0 { // a snapshot that was refused comes again: it replaces the wrong state as well
			r.yields--
			return rebuildWait, false
		}
		r.behind.Store(false)
		fresh, err := r.build(ctx)
		if err != nil {
			return r.again(ctx, err)
		}
		r.fresh = fresh
	}
	ready, err := r.fits(r.fresh)
	switch {
	case err != nil:
		err = errors.Join(err, r.discard(r.fresh.number))
		r.fresh = nil
		return r.again(ctx, err)
	case !ready:
		return rebuildWait, false
	}
	close(r.built)
	return 0, true
}

// again says when to begin again after a try has failed.
func (r *rebuild) again(ctx context.Context, err error) (wait time.Duration, whole bool) {
	if errors.Is(err, errBehind) {
		r.yields = rebuildGiveWay
	}
	if ctx.Err() == nil {
		r.m.cfg.Logger.Warn("cannot rebuild the state yet", "error", err)
	}
	return rebuildRetry, false
}

// yield gives leadership away whenever this member has it although its state is wrong, until the member stops.
func (r *rebuild) yield() {
	m := r.m
	ticker := m.cfg.Clock.NewTicker(comparisonEvery)
	defer ticker.Stop()
	for {
		changed := m.node.LeaderChanged()
		if m.Trusted() != nil {
			m.HandOver(m.maintenance.ctx)
		}
		select {
		case <-changed:
		case <-r.doubted:
		case <-ticker.C():
		case <-m.stop:
			return
		}
	}
}

// noticing is receive, and notes when its snapshot has to wait: a rebuild that waits for entries then waits in vain.
func (r *rebuild) noticing(receive func(*raftpb.Message, io.Reader) error) func(*raftpb.Message, io.Reader) error {
	return func(msg *raftpb.Message, state io.Reader) error {
		err := receive(msg, state)
		if errors.Is(err, ErrSnapshotBusy) {
			r.behind.Store(true)
		}
		return err
	}
}

// build fetches the state of a member of the majority into a new generation, which is closed again, and takes the place of an
// incoming snapshot, unless it fails.
func (r *rebuild) build(ctx context.Context) (fresh *generation, err error) {
	m := r.m
	old, err := m.incoming.begin()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.incoming.built(nil, 0)
		}
	}()
	if old != nil {
		if err := m.discard(old); err != nil {
			return nil, err
		}
	}
	source, err := m.comparison.source(ctx)
	if err != nil {
		return nil, err
	}
	m.cfg.Logger.Info("rebuilding the state", "from", source.id.String())
	state, err := m.others.State(ctx, source.urls, m.cfg.Clock)
	if err != nil {
		return nil, fmt.Errorf("ask member %s for its state: %w", source.id, err)
	}
	number := m.log.Mark().Generation + 1
	fresh, err = m.buildGeneration(number, func(db *storage.DB) error { return snapshot.Build(db, m.withRoom(state)) })
	if err = errors.Join(err, state.Close()); fresh != nil {
		err = errors.Join(err, fresh.db.Flush(), fresh.close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rebuild from member %s: %w", source.id, err),
			storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, number))
	}
	return fresh, nil
}

// discard removes a generation that build made, and gives its place back.
func (r *rebuild) discard(number uint64) error {
	err := storage.RemoveGeneration(r.m.cfg.FS, r.m.cfg.DataDir, number)
	r.m.incoming.built(nil, 0)
	return err
}

// fits says whether this member has applied the entry that g is at, so that the log can go on from there. An error says that it
// never will.
func (r *rebuild) fits(g *generation) (ready bool, err error) {
	m := r.m
	index, term := g.store.Applied()
	if m.node.Applied() < index {
		if r.behind.Load() {
			err = errBehind
		}
		return false, err
	}
	if mark := m.log.Mark().Index; index < mark {
		return false, fmt.Errorf("the state is at entry %d, and the log begins behind %d", index, mark)
	}
	own, err := m.log.Term(index)
	if err == nil && own != term {
		err = fmt.Errorf("the state is at entry %d of term %d, in the log it is of term %d", index, term, own)
	}
	return err == nil, err
}

// adopt makes the log name the rebuilt state, if there is one. REQUIRES: the loops have ended.
func (r *rebuild) adopt() error {
	select {
	case <-r.built:
		at, _ := r.fresh.store.Applied()
		return r.m.log.Renew(r.fresh.number, at)
	default:
		return nil
	}
}

// Trusted returns ErrUntrusted while the state is known to differ from the majority's.
func (m *Member) Trusted() error {
	if m.rebuild.untrusted.Load() {
		return ErrUntrusted
	}
	return nil
}

// givable returns nil while other members may get this state. One that may be wrong would make two of one, and of the two
// perhaps a majority.
func (m *Member) givable() error {
	if m.comparison.unsure.Load() {
		return errUnsure
	}
	return m.Trusted()
}

// Rebuilt is closed when a whole state waits to replace the wrong one: the member is to be stopped and opened anew.
func (m *Member) Rebuilt() <-chan struct{} { return m.rebuild.built }
