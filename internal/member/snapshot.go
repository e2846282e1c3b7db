package member

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// ErrSnapshotBusy is returned for a snapshot that comes while another is received or
// installed. The sender tries again.
var ErrSnapshotBusy = errors.New("member: another snapshot is being received")

// incoming holds the one generation that was built from a received snapshot and
// waits for raft's decision and its installation.
type incoming struct {
	mu    sync.Mutex
	busy  bool // one is being built, ready and not refused by raft, or being installed
	ready *generation
	index uint64
	taken bool
}

// begin starts the reception of one. old is one that raft refused, to be removed.
func (in *incoming) begin() (old *generation, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy {
		return nil, ErrSnapshotBusy
	}
	old, in.ready = in.ready, nil
	in.busy = true
	return old, nil
}

// refused is begin for who removes what raft refused; nil when there is nothing.
func (in *incoming) refused() (old *generation) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.busy || in.ready == nil {
		return nil
	}
	old, in.ready = in.ready, nil
	in.busy = true
	return old
}

// built notes how building ended: g is nil when there is nothing to install.
func (in *incoming) built(g *generation, index uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy, in.ready, in.index, in.taken = g != nil, g, index, false
}

// decided notes what raft made of the snapshot at index. One that it took stays until
// Install takes it, even if raft refuses the same one when it comes again.
func (in *incoming) decided(index uint64, taken bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ready == nil || in.index != index {
		return
	}
	in.taken = in.taken || taken
	in.busy = in.taken
}

// take returns the generation built for the snapshot at index. No other is received before installed is called: until
// the log names this generation, the next one would get its number and its directory.
func (in *incoming) take(index uint64) (*generation, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.ready == nil || in.index != index {
		return nil, fmt.Errorf("member: no state was received for the snapshot at index %d", index)
	}
	g := in.ready
	in.ready, in.busy, in.taken = nil, true, false
	return g, nil
}

// installed notes that the log names the generation that was taken.
func (in *incoming) installed() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy = false
}

// ReceiveSnapshot builds a new generation from the state that came with the
// MsgSnap msg, durable but not yet named by the log, and passes the message to
// raft. A generation that raft did not take is thrown away by the next call, or within about a second.
// Errors are ErrSnapshotBusy and ErrStopped, or wrap snapshot.ErrInvalid when the stream is at fault;
// the running state is not touched.
func (m *Member) ReceiveSnapshot(msg *raftpb.Message, state io.Reader) error {
	meta := msg.GetSnapshot().GetMetadata()
	if meta.GetIndex() <= m.node.Applied() {
		m.node.Step(msg) // raft answers that it is further already
		return nil
	}
	return m.receiveState(msg, func(db *storage.DB) error { return snapshot.Build(db, m.withRoom(state)) })
}

const (
	// incomingSpareBytes is what the disk must have free while a state comes: the memtables of the new one, and what the member itself
	// writes meanwhile.
	incomingSpareBytes = 128 << 20
	// roomEvery is after how many bytes of it the disk is looked at.
	roomEvery = 16 << 20
)

// withRoom returns what comes as long as the disk has room for it: a full one would end the member, and a state that does not fit comes
// again and again.
func (m *Member) withRoom(from io.Reader) io.Reader {
	return &roomReader{from: from, m: m, left: roomEvery}
}

type roomReader struct {
	from io.Reader
	m    *Member
	left int // before the disk is looked at
}

func (r *roomReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		if err := r.m.roomFor(incomingSpareBytes); err != nil {
			return 0, err
		}
		r.left = roomEvery
	}
	n, err := r.from.Read(p)
	r.left -= n
	return n, err
}

// receiveState is ReceiveSnapshot for a state that build writes into an empty database.
func (m *Member) receiveState(msg *raftpb.Message, build func(*storage.DB) error) error {
	_, end, err := m.maintenance.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	meta := msg.GetSnapshot().GetMetadata()
	old, err := m.incoming.begin()
	if err != nil {
		return err
	}
	begin := m.cfg.Clock.Now()
	g, err := m.receive(old, meta, build)
	m.measures.SnapshotsBuilt.Took(m.cfg.Clock.Now().Sub(begin))
	m.incoming.built(g, meta.GetIndex())
	if err != nil {
		return fmt.Errorf("receive the snapshot at index %d: %w", meta.GetIndex(), err)
	}
	m.node.Step(msg)
	return nil
}

// discardRefused removes the generation that raft did not take, if there is one: no other snapshot may come for long, and it takes as much
// of the disk as the state.
func (m *Member) discardRefused() {
	old := m.incoming.refused()
	if old == nil {
		return
	}
	defer m.incoming.built(nil, 0)
	if err := m.discard(old); err != nil {
		m.cfg.Logger.Warn("cannot remove a state that was received for nothing", "generation", old.number, "error", err)
	}
}

// discard removes a generation that was never named by the log.
func (m *Member) discard(old *generation) error {
	return errors.Join(old.close(), storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, old.number))
}

// receive removes the generation that raft did not take and builds the one of meta.
func (m *Member) receive(old *generation, meta *raftpb.SnapshotMetadata, build func(*storage.DB) error) (*generation, error) {
	if old != nil {
		if err := m.discard(old); err != nil {
			return nil, err
		}
	}
	number := m.log.Mark().Generation + 1
	g, err := m.buildGeneration(number, build)
	if err != nil {
		return nil, errors.Join(err, storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, number))
	}
	if index, term := g.store.Applied(); index != meta.GetIndex() || term != meta.GetTerm() {
		return nil, errors.Join(
			fmt.Errorf("%w: it holds the state at entry %d of term %d, the message says %d of term %d",
				snapshot.ErrInvalid, index, term, meta.GetIndex(), meta.GetTerm()),
			g.close(), storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, number))
	}
	return g, nil
}

// buildGeneration writes a state into a new directory, stamped and flushed.
func (m *Member) buildGeneration(number uint64, build func(*storage.DB) error) (*generation, error) {
	// A crash may have left part of an earlier attempt under this number.
	if err := storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, number); err != nil {
		return nil, err
	}
	db, err := storage.OpenState(storage.StateDir(m.cfg.DataDir, number), m.stateOptions())
	if err != nil {
		return nil, err
	}
	if err := build(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	begin := m.cfg.Clock.Now()
	if err := stampIdentity(db, m.identity.OfState()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	m.measures.SnapshotsSynced.Took(m.cfg.Clock.Now().Sub(begin))
	if err := storage.SyncDir(m.cfg.FS, storage.Root(m.cfg.DataDir)); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	g, err := m.loadGeneration(number, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return g, nil
}

// sendSnapshot gives a MsgSnap the metadata of the state as it is now and passes
// both on. It runs on the apply loop, so the state is exactly at its applied index.
func (m *Member) sendSnapshot(msg *raftpb.Message) {
	g := m.gen.Load()
	state, conf, err := m.openToSend(g)
	if err != nil {
		m.cfg.Logger.Warn("cannot send a snapshot", "to", msg.GetTo(), "error", err)
		m.node.ReportSnapshot(msg.GetTo(), false)
		return
	}
	index, term := g.store.Applied()
	msg.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(index), Term: proto.Uint64(term), ConfState: conf,
	}}
	state.to, state.index = msg.GetTo(), index
	m.durable.receivers.begin(state.to, state.index)
	m.cfg.SendSnapshot(msg, state)
}

// openToSend opens a view of the state that keeps the generation open until it is
// closed.
func (m *Member) openToSend(g *generation) (*heldReader, *raftpb.ConfState, error) {
	if m.cfg.SendSnapshot == nil {
		return nil, nil, errors.New("no transport")
	}
	if err := m.givable(); err != nil {
		return nil, nil, err
	}
	conf, err := g.confState()
	if err != nil {
		return nil, nil, err
	}
	if err := g.store.Hold(); err != nil {
		return nil, nil, err
	}
	r, err := snapshot.NewReader(g.db)
	if err != nil {
		g.store.Release()
		return nil, nil, err
	}
	content, err := etcdfile.Read(g.db)
	if err != nil {
		err = errors.Join(err, r.Close())
		g.store.Release()
		return nil, nil, err
	}
	return &heldReader{pacedState: m.paced(r), store: g.store, member: m, content: content}, conf, nil
}

// heldReader is a state on its way to another member, as a stream, or as a Database. It belongs to one goroutine.
type heldReader struct {
	*pacedState
	store     *mvcc.Store
	member    *Member
	content   *etcdfile.Content // of the same instant
	to, index uint64            // whose it is, and the entry it was made at
}

func (r *heldReader) Close() error {
	defer r.store.Release()
	defer func() { r.member.durable.receivers.end(r.to, r.index, r.member.cfg.Clock.Now()) }()
	return errors.Join(r.Reader.Close(), r.content.Close())
}

// retire closes a generation that was replaced, once its last view is closed, and
// removes its directory.
func (m *Member) retire(g *generation) error {
	m.replaced.Add(1)
	g.store.Retire(func() {
		defer m.replaced.Done()
		err := errors.Join(g.close(), storage.RemoveGeneration(m.cfg.FS, m.cfg.DataDir, g.number))
		if err != nil {
			// The next start removes it: the log does not name it any more.
			m.cfg.Logger.Warn("cannot remove a replaced state", "generation", g.number, "error", err)
		}
	})
	return nil
}
