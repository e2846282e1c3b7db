package member

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

const quotaInTests = 20_000

// small starts a member with a small quota.
func small(t *testing.T) *Member {
	t.Helper()
	cfg := configOf(t, vfs.NewMem(), alone)
	cfg.QuotaBytes = quotaInTests
	m := start(t, cfg)
	t.Cleanup(func() { stop(t, m) })
	return m
}

// fill overwrites a key until the quota is used up, past the check that requests go through, and waits until the
// alarm was raised.
func fill(t *testing.T, m *Member) {
	t.Helper()
	for m.gen.Load().inUse() < quotaInTests {
		put(t, m, "k", strings.Repeat("v", 1000))
	}
	<-m.quota.raise(0)
	if got := m.Alarms().List(); len(got) != 1 || got[0] != ownAlarm(m) {
		t.Fatalf("the alarms are %v", got)
	}
}

func ownAlarm(m *Member) cluster.Alarm {
	return cluster.Alarm{Member: m.self(), Type: cluster.AlarmNoSpace}
}

func propose(t *testing.T, m *Member, cmd apply.Command, raw []byte) error {
	t.Helper()
	_, err := m.Propose(t.Context(), cmd, raw)
	return err
}

func lowerAlarm(t *testing.T, m *Member) {
	t.Helper()
	err := propose(t, m, apply.CommandAlarm, encoded(t, &etcdserverpb.AlarmRequest{
		Action: etcdserverpb.AlarmRequest_DEACTIVATE, MemberID: m.ID(), Alarm: etcdserverpb.AlarmType_NOSPACE,
	}))
	if err != nil || len(m.Alarms().List()) != 0 {
		t.Fatalf("lowering the alarm: %v, %v", m.Alarms().List(), err)
	}
}

func TestQuotaRaisesTheAlarmAndCompactionGivesTheSpaceBack(t *testing.T) {
	t.Parallel()
	m := small(t)
	fill(t, m)
	if err := propose(t, m, apply.CommandPut, putRequest(t, "k", "")); !errors.Is(err, apply.ErrNoSpace) {
		t.Errorf("a put with the alarm raised: %v", err)
	}
	if err := propose(t, m, apply.CommandDeleteRange, encoded(t, &etcdserverpb.DeleteRangeRequest{Key: []byte("k")})); err != nil {
		t.Errorf("a delete with the alarm raised: %v", err)
	}
	rev := m.Store().Revision()
	if err := propose(t, m, apply.CommandCompaction, encoded(t, &etcdserverpb.CompactionRequest{Revision: rev})); err != nil {
		t.Fatal(err)
	}
	if err := m.WaitCompacted(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if got := m.Status().InUseBytes; got > 2000 {
		t.Errorf("%d bytes are in use after the compaction", got)
	}
	if err := m.CheckSpace(t.Context(), 10_000); err != nil {
		t.Errorf("there is space again, but: %v", err)
	}
	if err := propose(t, m, apply.CommandPut, putRequest(t, "k", "")); !errors.Is(err, apply.ErrNoSpace) {
		t.Errorf("a put before the alarm is lowered: %v", err)
	}
	lowerAlarm(t, m)
	put(t, m, "k", "v")
	if got := m.Alarms().List(); len(got) != 0 {
		t.Errorf("the alarms at the end are %v", got)
	}
}

func TestALoweredAlarmComesBackWithTheNextRequestForSpace(t *testing.T) {
	t.Parallel()
	m := small(t)
	fill(t, m)
	lowerAlarm(t, m)
	if err := propose(t, m, apply.CommandDeleteRange, encoded(t, &etcdserverpb.DeleteRangeRequest{Key: []byte("k")})); err != nil {
		t.Fatal(err)
	}
	if err := m.CheckSpace(t.Context(), 0); err != nil || len(m.Alarms().List()) != 0 {
		t.Errorf("a request that needs no space: %v, alarms %v", err, m.Alarms().List())
	}
	if err := m.CheckSpace(t.Context(), 1); !errors.Is(err, apply.ErrNoSpace) || !m.Alarms().Has(ownAlarm(m)) {
		t.Errorf("a request that needs space: %v, alarms %v", err, m.Alarms().List())
	}
}

func TestManyRequestsRaiseTheAlarmOnce(t *testing.T) {
	t.Parallel()
	m := small(t)
	before, _ := m.Store().Applied()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := m.CheckSpace(t.Context(), quotaInTests); !errors.Is(err, apply.ErrNoSpace) {
				t.Errorf("a request above the quota: %v", err)
			}
			if !m.Alarms().Has(ownAlarm(m)) {
				t.Error("it was refused before the alarm was raised")
			}
		})
	}
	wg.Wait()
	if after, _ := m.Store().Applied(); after != before+1 {
		t.Errorf("%d entries for one alarm", after-before)
	}
}

// TestAStartDoesNotRaiseAnAlarmForWhatIsGoneByNow: a start after a crash applies again what used the quota up, and then what made room.
func TestAStartDoesNotRaiseAnAlarmForWhatIsGoneByNow(t *testing.T) {
	t.Parallel()
	disk := vfs.NewCrashableMem()
	cfg := configOf(t, disk, alone)
	cfg.QuotaBytes = quotaInTests
	m := start(t, cfg)
	fill(t, m)
	compact(t, m, m.Status().Revision)
	if err := m.WaitCompacted(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	lowerAlarm(t, m)
	cfg.FS = disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, m)

	m = open(t, cfg)
	defer stop(t, m)
	if m.ToReplay() == 0 {
		t.Fatal("nothing is applied again")
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // of two reasons to return a select draws one
		if err := m.quota.catchUp(impatient); !errors.Is(err, context.Canceled) {
			t.Fatalf("before anything is applied again it has caught up: %v", err)
		}
	}
	m.Start()
	<-m.Ready()
	if err := m.CheckSpace(t.Context(), 10_000); err != nil {
		t.Errorf("a request that there is room for: %v", err)
	}
	m.quota.mu.Lock()
	looking := m.quota.raising
	m.quota.mu.Unlock()
	if looking != nil {
		<-looking
	}
	if got := m.Alarms().List(); len(got) != 0 {
		t.Errorf("the alarms are %v", got)
	}
}

// TestRequestsWaitForSpaceThatIsAboutToBeGivenBack, and raise the alarm only if it is not enough.
func TestRequestsWaitForSpaceThatIsAboutToBeGivenBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		need int64
		want error
	}{
		"there is room then": {10_000, nil},
		"there is not":       {19_900, apply.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, vfs.NewMem(), alone)
			cfg.QuotaBytes = quotaInTests
			m := open(t, cfg) // not started: nothing is compacted, and the quota is looked at, when the test says so
			defer stop(t, m)
			step(m)
			for range 15 {
				putStepped(t, m, "k", strings.Repeat("v", 1000))
			}
			p, err := m.Begin(apply.CommandCompaction, encoded(t, &etcdserverpb.CompactionRequest{Revision: m.Status().Revision}))
			if err != nil {
				t.Fatal(err)
			}
			step(m)
			if r, ok := p.Poll(); !ok || r.Err != nil {
				t.Fatal(ok, r.Err)
			}
			m.wg.Go(m.quota.run)

			impatient, cancel := context.WithCancel(t.Context())
			cancel()
			if err := m.CheckSpace(impatient, c.need); !errors.Is(err, apply.ErrNoSpace) || len(m.Alarms().List()) != 0 {
				t.Errorf("while it is being compacted, and who asks does not wait: %v, alarms %v", err, m.Alarms().List())
			}
			if err := m.quota.catchUp(impatient); !errors.Is(err, context.Canceled) {
				t.Errorf("while it is being compacted it has caught up: %v", err)
			}
			answer := make(chan error, 1)
			go func() { answer <- m.CheckSpace(t.Context(), c.need) }()
			for more := true; more; {
				if more, err = m.compactor.step(); err != nil {
					t.Fatal(err)
				}
			}
			for done := false; !done; {
				select {
				case err = <-answer:
					done = true
				default:
					step(m) // what it proposes
				}
			}
			if !errors.Is(err, c.want) || m.Alarms().Has(ownAlarm(m)) != (c.want != nil) {
				t.Errorf("%v, alarms %v", err, m.Alarms().List())
			}
		})
	}
}

// TestAStateThatGrowsAgainIsLookedAtAnew: after a look that has ended without the alarm, whatever its reason, the next group that leaves the state too
// large raises it.
func TestAStateThatGrowsAgainIsLookedAtAnew(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]func(t *testing.T, m *Member){
		"there was room": func(t *testing.T, m *Member) {
			p, err := m.Begin(apply.CommandCompaction, encoded(t, &etcdserverpb.CompactionRequest{Revision: m.Status().Revision}))
			if err != nil {
				t.Fatal(err)
			}
			step(m)
			if r, ok := p.Poll(); !ok || r.Err != nil {
				t.Fatal(ok, r.Err)
			}
			for more := true; more; {
				if more, err = m.compactor.step(); err != nil {
					t.Fatal(err)
				}
			}
			if !m.quota.endIfRoom() {
				t.Fatal("there is no room after a compaction")
			}
		},
		"the alarm could not be raised": func(t *testing.T, m *Member) {
			impatient, cancel := context.WithCancel(t.Context())
			cancel()
			if m.quota.look(impatient) {
				t.Fatal("it has looked without time to do so")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := configOf(t, vfs.NewMem(), alone)
			cfg.QuotaBytes, cfg.MaxRequestBytes = quotaInTests, 2*quotaInTests
			m := open(t, cfg) // not started: what the test does not do nobody does
			defer stop(t, m)
			step(m)
			putStepped(t, m, "k", strings.Repeat("v", quotaInTests))
			if !isLooking(m) {
				t.Fatal("nobody looks at a state that is too large")
			}
			putStepped(t, m, "k", "")
			ends(t, m)
			if isLooking(m) {
				t.Fatal("the look has not ended")
			}
			putStepped(t, m, "k", strings.Repeat("v", quotaInTests))
			if !isLooking(m) {
				t.Error("nobody looks at a state that is too large again")
			}
		})
	}
}

// TestASnapshotIsLookedAtLikeWhatIsApplied: it may make the state too large, or end that.
func TestASnapshotIsLookedAtLikeWhatIsApplied(t *testing.T) {
	t.Parallel()
	const large = quotaInTests
	for name, c := range map[string]struct {
		before, installed, next     int // bytes of the value
		looksInstalled, looksAtLast bool
	}{
		"it makes the state too large":               {0, large, 1, true, true},
		"it is as large as what somebody let pass":   {large, large, 1, false, false},
		"it is small, and what comes next too large": {large, 0, large, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holding := func(bytes int) (*Member, *vfs.MemFS) {
				disk := vfs.NewCrashableMem()
				cfg := configOf(t, disk, alone)
				cfg.QuotaBytes, cfg.MaxRequestBytes = quotaInTests, 2*quotaInTests
				m := open(t, cfg) // not started: what the test does not do nobody does
				step(m)
				putStepped(t, m, "k", strings.Repeat("v", bytes))
				return m, disk
			}
			other, from := holding(c.installed)
			stop(t, other)
			m, disk := holding(c.before)
			defer stop(t, m)
			if isLooking(m) {
				m.quota.mu.Lock()
				m.quota.end() // as with an alarm that somebody has lowered since
				m.quota.mu.Unlock()
			}
			const number, index = 2, 100
			replace(t, from, storage.StateDir("data", 1), disk, storage.StateDir("data", number))
			db, err := storage.OpenState(storage.StateDir("data", number), m.stateOptions())
			if err != nil {
				t.Fatal(err)
			}
			g, err := m.loadGeneration(number, db)
			if err != nil {
				t.Fatal(err)
			}
			m.incoming.built(g, index)
			snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(index)}}
			if err := (&machine{m: m}).Install(snap, func(uint64) error { return nil }); err != nil {
				t.Fatal(err)
			}
			if got := isLooking(m); got != c.looksInstalled {
				t.Errorf("once it is installed somebody looks: %v", got)
			}
			putStepped(t, m, "k", strings.Repeat("v", c.next))
			if got := isLooking(m); got != c.looksAtLast {
				t.Errorf("after one more put somebody looks: %v", got)
			}
		})
	}
}

func isLooking(m *Member) bool {
	m.quota.mu.Lock()
	defer m.quota.mu.Unlock()
	return m.quota.raising != nil
}

func TestWithoutAQuotaNothingIsRefused(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	if err := m.CheckSpace(t.Context(), 1<<62); err != nil {
		t.Error(err)
	}
}
