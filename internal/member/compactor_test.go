package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
	"github.com/ashlar-kv/ashlar/internal/pacing"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// records counts the versions of all keys that are physically there.
func records(t *testing.T, m *Member) (n int) {
	t.Helper()
	lower, upper := storage.SpaceBounds(storage.SpaceData)
	err := m.held(func(g *generation) error {
		it, err := g.db.NewIter(&storage.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			return err
		}
		for it.First(); it.Valid(); it.Next() {
			n++
		}
		return errors.Join(it.Error(), it.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func compact(t *testing.T, m *Member, rev int64) {
	t.Helper()
	raw := encoded(t, &etcdserverpb.CompactionRequest{Revision: rev})
	if _, err := m.Propose(t.Context(), apply.CommandCompaction, raw); err != nil {
		t.Fatal(err)
	}
}

func TestWaitCompactedReturnsWhenTheRecordsAreGone(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	if err := m.WaitCompacted(t.Context(), 0); err != nil {
		t.Errorf("with nothing to compact: %v", err)
	}
	const versions = 3 * compactSlice / 2 // more than one slice
	for range 2 {
		for i := range versions {
			put(t, m, "k", fmt.Sprint(i))
		}
		if got := records(t, m); got < versions {
			t.Fatalf("%d records before, want %d at least", got, versions)
		}
		rev := m.Status().Revision
		compact(t, m, rev)
		if err := m.WaitCompacted(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		if got := records(t, m); got != 1 || m.Store().CompactPending() {
			t.Errorf("%d records are left, pending %v; want the newest alone", got, m.Store().CompactPending())
		}
		if _, err := m.View(rev - 1); !errors.Is(err, mvcc.ErrCompacted) {
			t.Errorf("a view of what is compacted: %v", err)
		}
		if got := get(t, m, "k"); got != fmt.Sprint(versions-1) {
			t.Errorf("k is %q", got)
		}
	}
}

// TestNothingIsRemovedThatWatchersInStepMayNeed: an event that they are not told of yet may need the version before, also when a compaction
// comes while the compactor works.
func TestNothingIsRemovedThatWatchersInStepMayNeed(t *testing.T) {
	t.Parallel()
	m := open(t, configOf(t, vfs.NewMem(), alone)) // not started: nobody else applies
	defer stop(t, m)
	step(m)
	putStepped(t, m, "k", "1")
	w := m.Store().NewWriter()
	w.Begin()
	if err := w.PutBlind([]byte("k"), []byte("2"), 0); err != nil {
		t.Fatal(err)
	}
	rev, _ := w.End()
	if err := w.ScheduleCompact(rev); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	m.Store().ForgetHashes() // they would look at the context, too
	m.compactor.cancel()     // it would wait
	if more, err := m.compactor.step(); !errors.Is(err, context.Canceled) || more || records(t, m) != 2 {
		t.Errorf("before the hub is told: %v, %v, %d versions are left", more, err, records(t, m))
	}
	m.hub.Publish(w.Events())
	m.compactor.init(m)
	if more, err := m.compactor.step(); err != nil || more || records(t, m) != 1 {
		t.Errorf("once it is told: %v, %v, %d versions are left", more, err, records(t, m))
	}
}

func TestTheCompactorRestsMoreThanItWorksWhileClientsAsk(t *testing.T) {
	t.Parallel()
	cases := []struct {
		slice time.Duration
		busy  bool
		want  time.Duration
	}{
		{0, true, 0},
		{300 * time.Microsecond, true, 3600 * time.Microsecond},
		{300 * time.Microsecond, false, 300 * time.Microsecond},
		{3 * time.Millisecond, true, 36 * time.Millisecond},
		{time.Minute, true, restMax},
		{time.Minute, false, restMax},
	}
	pace := newCompactPace(time.Unix(1_700_000_000, 0), 0, 0)
	for _, x := range cases {
		if got := pace.restAfter(x.slice, x.busy); got != x.want {
			t.Errorf("after %v, asked %v: %v, want %v", x.slice, x.busy, got, x.want)
		}
	}
}

// TestTheCompactorKeepsUpWithPuts: it is to look at twice as many changes as are put.
func TestTheCompactorKeepsUpWithPuts(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	var put, compacted uint64 = 5000, 700 // of compactions before
	pace := newCompactPace(now, put, compacted)
	for i, x := range []struct {
		after          time.Duration
		put, compacted uint64 // since the look before
		want           int64
	}{
		{keepUpEvery - 1, 1000, 0, 12},
		{1, 0, 2000, 12}, // with the 1000 before
		{keepUpEvery, 1000, 1999, 6},
		{keepUpEvery, 1000, 1999, 3},
		{keepUpEvery / 2, 0, 0, 3},
		{keepUpEvery, 1000, 0, 1},
		{keepUpEvery, 1000, 0, 0},
		{keepUpEvery, 1000, 0, 0},
		{keepUpEvery, 1000, 2000, 1},
		{keepUpEvery, 0, 0, 3}, // nothing is put
		{keepUpEvery, 10, 2000, 7},
		{keepUpEvery, 10, 2000, 12},
		{keepUpEvery, 10, 2000, 12},
	} {
		now, put, compacted = now.Add(x.after), put+x.put, compacted+x.compacted
		if pace.keepUp(now, put, compacted); pace.share != x.want {
			t.Fatalf("look %d: rests are %d times as long as slices, want %d", i, pace.share, x.want)
		}
	}
}

// TestTheCompactorMakesUpForRestsThatWereTooLong: its clock moves by a millisecond at each look, and so lets every rest last longer.
func TestTheCompactorMakesUpForRestsThatWereTooLong(t *testing.T) {
	t.Parallel()
	moving := &clock.Moving{Manual: clock.NewManual(time.Unix(1_700_000_000, 0)), Step: time.Millisecond}
	var rests pacing.Rests
	c := &compactor{m: &Member{cfg: Config{Clock: moving}}, ctx: t.Context()}
	for range 3 {
		if !c.rest(rests.Next(5*time.Millisecond), &rests) {
			t.Fatal("it stops")
		}
	}
	if want := []time.Duration{5 * time.Millisecond, 4 * time.Millisecond, 4 * time.Millisecond}; !slices.Equal(moving.Rests, want) {
		t.Errorf("it rests %v, want %v", moving.Rests, want)
	}
}

func TestACompactionGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := open(t, configOf(t, disk, alone)) // not started: the compactor does not run
	step(m)
	for i := range 100 {
		putStepped(t, m, "k", fmt.Sprint(i))
	}
	p, err := m.Begin(apply.CommandCompaction, encoded(t, &etcdserverpb.CompactionRequest{Revision: 100}))
	if err != nil {
		t.Fatal(err)
	}
	step(m)
	if r, ok := p.Poll(); !ok || r.Err != nil {
		t.Fatal(ok, r.Err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.WaitCompacted(ended, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting with an ended context: %v", err)
	}
	stop(t, m)
	if err := m.WaitCompacted(t.Context(), 100); !errors.Is(err, ErrStopped) {
		t.Errorf("waiting at a stopped member: %v", err)
	}

	m = start(t, configOf(t, disk, alone))
	defer stop(t, m)
	if err := m.WaitCompacted(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	if got := records(t, m); got != 2 { // revisions 100 and 101
		t.Errorf("%d records are left, want 2", got)
	}
}

func TestTheLogIsCutOnlyBelowWhatIsDurable(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	m := open(t, configOf(t, disk, alone))
	step(m)
	for i := range 30 {
		putStepped(t, m, "k", fmt.Sprint(i))
	}
	first := m.Log().FirstIndex()
	if err := m.CutLog(); err != nil || m.Log().FirstIndex() != first {
		t.Errorf("the log begins at %d, %v; want %d: nothing of it is durable in the state", m.Log().FirstIndex(), err, first)
	}
	if err := errors.Join(m.Flush(), m.CutLog()); err != nil {
		t.Fatal(err)
	}
	applied, _ := m.Store().Applied()
	if got, want := m.Log().FirstIndex(), applied-m.cfg.SnapshotCatchUpEntries+1; got != want {
		t.Errorf("the log begins at %d, want %d", got, want)
	}
	putStepped(t, m, "k", "last")
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, m)
	m = start(t, configOf(t, crashed, alone))
	defer stop(t, m)
	if got := get(t, m, "k"); got != "last" {
		t.Errorf("k is %q after a crash", got)
	}
}
