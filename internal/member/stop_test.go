package member

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/snapshot"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestAMemberThatHasStoppedRefusesEveryRead asks a member for all that it reads off its databases.
func TestAMemberThatHasStoppedRefusesEveryRead(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	put(t, m, "a", "v")
	stop(t, m)
	coming := &raftpb.Message{Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(1000)}}}
	for what, ask := range map[string]func() error{
		"View":        func() error { _, err := m.View(0); return err },
		"View at 1":   func() error { _, err := m.View(1); return err },
		"HashKV":      func() error { _, _, _, err := m.HashKV(t.Context(), 0); return err },
		"Flush":       m.Flush,
		"CutLog":      m.CutLog,
		"CompactStep": func() error { _, err := m.CompactStep(); return err },
		"Defragment":  func() error { return m.Defragment(t.Context()) },
		"Export":      func() error { _, err := m.Export(t.Context()); return err },
		"ReadBarrier": func() error { return m.ReadBarrier(t.Context()) },
		"State":       func() error { _, err := m.answerState(); return err },
		"a snapshot":  func() error { return m.ReceiveSnapshot(coming, strings.NewReader("")) },
		"a database":  func() error { return m.ReceiveDatabase(coming, strings.NewReader("")) },
	} {
		if err := ask(); !errors.Is(err, ErrStopped) {
			t.Errorf("%s: got %v, want ErrStopped", what, err)
		}
	}
	// What cannot fail tells what it can: a scrape or a health check may come too late.
	m.StateStats()
	if st := m.Status(); st.DiskBytes != 0 || st.Applied == 0 {
		t.Errorf("status %+v", st)
	}
	m.Log().Metrics()
	if err := m.Stop(); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

// TestStopWaitsForOpenViews reads a state while its member stops.
func TestStopWaitsForOpenViews(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	put(t, m, "a", "v")
	v, err := m.View(0)
	if err != nil {
		t.Fatal(err)
	}
	var order inOrder
	stopped := make(chan error, 1)
	go func() {
		err := m.Stop()
		order.note("stopped")
		stopped <- err
	}()
	for !m.gone.Load() { // the databases are about to be closed
		runtime.Gosched()
		if t.Context().Err() != nil {
			t.Fatal(context.Cause(t.Context()))
		}
	}
	if kv, found, err := v.Get([]byte("a")); err != nil || !found || string(kv.Value()) != "v" {
		t.Errorf("a view of a member that stops: %v, %v, %v", kv, found, err)
	}
	order.note("closing")
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	order.expect(t, "closing", "stopped")
}

// TestStopWaitsForAReplacedStateThatIsStillSent holds a replaced generation as the sender of a snapshot does.
func TestStopWaitsForAReplacedStateThatIsStillSent(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	m := start(t, configOf(t, disk, alone))
	put(t, m, "a", "v")
	old, err := m.hold()
	if err != nil {
		t.Fatal(err)
	}
	replaceState(t, m, old)
	var order inOrder
	stopped := make(chan error, 1)
	go func() {
		err := m.Stop()
		order.note("stopped")
		stopped <- err
	}()
	<-m.stop
	if found, err := old.db.Get(identityKey, func([]byte) error { return nil }); err != nil || !found {
		t.Errorf("a replaced state of a member that stops: %v, %v", found, err)
	}
	order.note("sent")
	old.store.Release()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	order.expect(t, "sent", "stopped")
	if _, err := disk.Stat(storage.StateDir("data", 1)); err == nil {
		t.Error("the replaced state is still there")
	}
}

// TestWhatIsAskedOfAStateThatIsReplacedIsAskedOfTheNewOne: a snapshot is installed between the instant in which a state is held and that in which it is
// read.
func TestWhatIsAskedOfAStateThatIsReplacedIsAskedOfTheNewOne(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	put(t, m, "a", "v")
	var asked []uint64
	err := m.held(func(g *generation) error {
		if asked = append(asked, g.number); len(asked) == 1 {
			replaceState(t, m, g)
		}
		_, _, _, err := g.store.HashKV(t.Context(), 0)
		return err
	})
	if err != nil || !slices.Equal(asked, []uint64{1, 2}) {
		t.Errorf("the states %v were asked: %v", asked, err)
	}
	stop(t, m)
}

// replaceState puts a copy of a state in its place, as a snapshot that is installed.
func replaceState(t *testing.T, m *Member, old *generation) {
	t.Helper()
	m.gen.Store(copyState(t, m, old))
	if err := m.retire(old); err != nil {
		t.Fatal(err)
	}
}

// copyState makes the second state of a member, with all that is in another one.
func copyState(t *testing.T, m *Member, from *generation) *generation {
	t.Helper()
	r, err := snapshot.NewReader(from.db)
	if err != nil {
		t.Fatal(err)
	}
	g, err := m.buildGeneration(2, func(db *storage.DB) error { return snapshot.Build(db, r) })
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestAStateThatTheLogCannotNameIsClosed: a program that embeds a member opens it anew after its log has failed, in the same process.
func TestAStateThatTheLogCannotNameIsClosed(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	put(t, m, "a", "v")
	g := copyState(t, m, m.gen.Load())
	if _, err := m.incoming.begin(); err != nil {
		t.Fatal(err)
	}
	m.incoming.built(g, 9)
	broken := errors.New("no space left on device")
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(9)}}
	if err := (&machine{m: m}).Install(snap, func(uint64) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an installation that the log fails at: %v", err)
	}
	stop(t, m)
	db, err := storage.OpenState(storage.StateDir("data", 2), m.stateOptions())
	if err != nil {
		t.Fatalf("the state is open still: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// inOrder notes what happens in which order.
type inOrder struct {
	mu    sync.Mutex
	noted []string
}

func (o *inOrder) note(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noted = append(o.noted, what)
}

func (o *inOrder) expect(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.Join(o.noted, ", ") != strings.Join(want, ", ") {
		t.Errorf("in this order: %v, want %v", o.noted, want)
	}
}
