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

	"github.com/ashlar-kv/ashlar/internal/peer"
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
	// rebuildGiveWay is how often it looks whether a snapshot has come that it gave way to.
	rebuildGiveWay = 200
	// rebuildMark is the file that marks a member whose state is wrong.
	rebuildMark = "REBUILD"
	// rebuildMarkBytes bounds what is read of it.
	rebuildMarkBytes = 64
)

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

	built chan struct{} // closed when the new generation is whole
	next  uint64        // its number, and at the entry that it is at; written before built is closed
	at    uint64
}

// init reads the mark. REQUIRES: the stores are open.
func (r *rebuild) init(m *Member) error {
	r.m, r.built = m, make(chan struct{})
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

// begin ends the trust in this state. It returns false when the member ends because it cannot note that.
func (r *rebuild) begin() bool {
	r.distrust()
	number := r.m.gen.Load().number
	if err := r.mark(number); err != nil {
		r.m.fatal(fmt.Errorf("mark the state as wrong: %w", err))
		return false
	}
	r.wrong.Store(number)
	return true
}

// distrust ends what is answered from the state.
func (r *rebuild) distrust() { r.untrusted.Store(true) }

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

// run rebuilds the state in a new directory. It returns true when that is whole, which Stop makes the log name, or the member
// stops; false when a snapshot has replaced the wrong state meanwhile.
func (r *rebuild) run() (ended bool) {
	m, ctx := r.m, r.m.maintenance.ctx
	m.durable.hold.Store(true)
	for r.pending() {
		m.HandOver(ctx)
		r.behind.Store(false)
		number, at, err := r.build(ctx)
		if err == nil {
			r.next, r.at = number, at
			close(r.built)
			return true
		}
		if ctx.Err() != nil {
			return true
		}
		m.cfg.Logger.Warn("cannot rebuild the state yet", "error", err)
		if !r.pause(rebuildRetry) {
			return true
		}
		// A snapshot that was refused comes again: it replaces the wrong state as well.
		for n := 0; errors.Is(err, errBehind) && n < rebuildGiveWay && r.pending(); n++ {
			if !r.pause(rebuildWait) {
				return true
			}
		}
	}
	m.durable.hold.Store(false)
	return false
}

func (r *rebuild) pause(d time.Duration) bool {
	timer := r.m.cfg.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-r.m.stop:
		return false
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

// build fetches the state of a member of the majority into a new generation, and waits until this member's log holds the entry
// that it has applied.
func (r *rebuild) build(ctx context.Context) (number, at uint64, err error) {
	m := r.m
	old, err := m.incoming.begin()
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			m.incoming.built(nil, 0)
		}
	}()
	if old != nil {
		if err := errors.Join(old.close(), storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, old.number)); err != nil {
			return 0, 0, err
		}
	}
	source, err := m.comparison.source(ctx)
	if err != nil {
		return 0, 0, err
	}
	m.cfg.Logger.Info("rebuilding the state", "from", source.id.String())
	state, err := m.others.State(ctx, source.urls, m.cfg.Clock)
	if err != nil {
		return 0, 0, fmt.Errorf("ask member %s for its state: %w", source.id, err)
	}
	number = m.log.Mark().Generation + 1
	g, err := m.buildGeneration(number, func(db *storage.DB) error { return snapshot.Build(db, state) })
	if err = errors.Join(err, state.Close()); g != nil {
		err = errors.Join(err, g.db.Flush(), g.close())
	}
	if err == nil {
		err = r.await(ctx, g)
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("rebuild from member %s: %w", source.id, err),
			storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, number))
	}
	at, _ = g.store.Applied()
	return number, at, nil
}

// await waits until this member has applied the entry that g is at, and checks that the log can go on from there.
func (r *rebuild) await(ctx context.Context, g *generation) error {
	m := r.m
	index, term := g.store.Applied()
	for m.node.Applied() < index {
		if r.behind.Load() {
			return errBehind
		}
		if !r.pause(rebuildWait) {
			return ErrStopped
		}
	}
	if mark := m.log.Mark().Index; index < mark {
		return fmt.Errorf("the state is at entry %d, and the log begins behind %d", index, mark)
	}
	own, err := m.log.Term(index)
	if err == nil && own != term {
		err = fmt.Errorf("the state is at entry %d of term %d, in the log it is of term %d", index, term, own)
	}
	return errors.Join(err, ctx.Err())
}

// source returns a voter that the state can be had from: one of a majority that has one hash, the leader if it is of it.
func (c *comparison) source(ctx context.Context) (heard, error) {
	all := c.ask(ctx, ^uint64(0))
	var index uint64
	for i := range all {
		if p := all[i].chain.Point; all[i].comparable() && p != nil && (index == 0 || p.Index < index) {
			index = p.Index
		}
	}
	groups := map[peer.Point][]heard{}
	for _, x := range c.ask(ctx, index) {
		if p := x.chain.Point; x.comparable() && p != nil && p.Index == index {
			groups[*p] = append(groups[*p], x)
		}
	}
	quorum := len(c.m.Members().Voters())/2 + 1
	for _, group := range groups {
		if len(group) < quorum {
			continue
		}
		for _, x := range group {
			if uint64(x.id) == c.m.node.Leader() {
				return x, nil
			}
		}
		return group[0], nil
	}
	return heard{}, errNoMajority
}

// adopt makes the log name the rebuilt state, if there is one. REQUIRES: the loops have ended.
func (r *rebuild) adopt() error {
	select {
	case <-r.built:
		return r.m.log.Renew(r.next, r.at)
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

// Rebuilt is closed when a whole state waits to replace the wrong one: the member is to be stopped and opened anew.
func (m *Member) Rebuilt() <-chan struct{} { return m.rebuild.built }

// answerState opens the state for a member that rebuilds its own.
func (m *Member) answerState() (state io.ReadCloser, err error) {
	if err := m.Trusted(); err != nil {
		return nil, err
	}
	select {
	case m.states <- struct{}{}:
	default:
		return nil, ErrSnapshotBusy
	}
	err = m.held(func(g *generation) error {
		r, err := snapshot.NewReader(g.db)
		if err != nil {
			return err
		}
		if err := g.store.Hold(); err != nil {
			return errors.Join(err, r.Close())
		}
		state = &sentState{r, func() { g.store.Release(); <-m.states }}
		return nil
	})
	if err != nil {
		<-m.states
	}
	return state, err
}

// sentState is a state on its way to a member that rebuilds its own.
type sentState struct {
	*snapshot.Reader
	release func()
}

func (s *sentState) Close() error {
	defer s.release()
	return s.Reader.Close()
}
