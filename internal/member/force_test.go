package member

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// withoutMajority returns the disk of a member that has k=v, and in its log alone late=x, another member's addition and
// later=y: the voter that was added before never ran. It was killed. With it comes the id of that other one.
func withoutMajority(t *testing.T) (*vfs.MemFS, cluster.ID) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	m := open(t, configOf(t, disk, alone))
	step(m)
	putStepped(t, m, "k", "v")
	other := cluster.Member{ID: 5, PeerURLs: []string{"http://127.0.0.1:11"}}
	p, err := m.BeginChange(raftpb.ConfChangeAddNode, &cluster.ConfChangeContext{Member: other})
	if err != nil {
		t.Fatal(err)
	}
	step(m)
	if r, ok := p.Poll(); !ok || r.Err != nil {
		t.Fatalf("adding a member: decided %v, error %v", ok, r.Err)
	}
	last := m.log.LastIndex()
	third := cluster.Member{ID: 6, PeerURLs: []string{"http://127.0.0.1:12"}}
	for _, begin := range []func() error{
		func() error { _, err := m.Begin(apply.CommandPut, putRequest(t, "late", "x")); return err },
		func() error {
			_, err := m.BeginChange(raftpb.ConfChangeAddNode, &cluster.ConfChangeContext{Member: third})
			return err
		},
		func() error { _, err := m.Begin(apply.CommandPut, putRequest(t, "later", "y")); return err },
	} {
		if err := begin(); err != nil {
			t.Fatal(err)
		}
		step(m)
	}
	if m.log.LastIndex() != last+3 || m.node.Applied() != last {
		t.Fatal("what came last is not in the log alone")
	}
	left := copyOf(disk)
	stop(t, m)
	return left, other.ID
}

func mustForce(t *testing.T, cfg Config) {
	t.Helper()
	if err := ForceNewCluster(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestAMemberBecomesAClusterOfOne(t *testing.T) {
	t.Parallel()
	disk, other := withoutMajority(t)
	cfg := configOf(t, disk, alone)
	mustForce(t, cfg)
	m := start(t, cfg)
	if got := get(t, m, "k") + get(t, m, "late") + get(t, m, "later"); got != "vxy" {
		t.Errorf("got %q, want all that was in the log", got)
	}
	if m.Members().Len() != 1 || !m.Members().IsRemoved(other) {
		t.Errorf("the members are %v", m.Members().Members())
	}
	put(t, m, "k", "w")
	if _, err := m.AddMember(t.Context(), []string{"http://127.0.0.1:12"}, false); err != nil {
		t.Errorf("the new cluster does not grow: %v", err)
	}
	stop(t, m)
}

// TestNoChangeOfTheMembershipIsTakenOver wherever it stands among what the log alone has: it would be one of the former cluster.
func TestNoChangeOfTheMembershipIsTakenOver(t *testing.T) {
	t.Parallel()
	disk, _ := withoutMajority(t)
	m := open(t, configOf(t, disk, alone))
	change := m.log.LastIndex() - 1
	for name, c := range map[string]struct {
		first, last uint64
		replaced    int
	}{
		"nothing":               {change, change - 1, 0},
		"a put alone":           {change - 1, change - 1, 0},
		"the change alone":      {change, change, 1},
		"the change at the end": {change - 1, change, 1},
		"the change first":      {change, change + 1, 2},
		"all":                   {change - 1, change + 1, 2},
	} {
		got, err := m.withoutChanges(c.first, c.last)
		if err != nil || len(got) != c.replaced {
			t.Errorf("%s: %d entries are replaced, want %d: %v", name, len(got), c.replaced, err)
			continue
		}
		for i, e := range got {
			if e.GetType() != raftpb.EntryNormal || e.GetIndex() != change+uint64(i) || (len(e.GetData()) == 0) != (i == 0) {
				t.Errorf("%s: entry %d is %v", name, change+uint64(i), e)
			}
		}
	}
	stop(t, m)
}

// TestForcingAgainDropsNothing leaves the flag on the command line: the stored commit index is behind what was answered.
func TestForcingAgainDropsNothing(t *testing.T) {
	t.Parallel()
	disk, _ := withoutMajority(t)
	answered := "v"
	for i := range 4 {
		cfg := configOf(t, disk, alone)
		mustForce(t, cfg)
		m := start(t, cfg)
		if got := get(t, m, "k"); got != answered {
			t.Errorf("got %q, want %q, which was answered", got, answered)
		}
		answered = fmt.Sprint(i)
		put(t, m, "k", answered)
		killed := disk.CrashClone(vfs.CrashCloneCfg{})
		stop(t, m)
		disk = killed
	}
}

func TestACrashAnywhereInForcingLeavesAWholeMember(t *testing.T) {
	t.Parallel()
	disk, _ := withoutMajority(t)
	var mu sync.Mutex // Pebble writes from goroutines of its own
	var left []*vfs.MemFS
	writes := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		left = append(left, disk.CrashClone(vfs.CrashCloneCfg{}), copyOf(disk))
		return nil
	})
	mustForce(t, configOf(t, errorfs.Wrap(disk, writes), alone))
	if len(left) < 3 {
		t.Fatalf("only %d crashes", len(left))
	}
	forced := 0
	for _, d := range left {
		cfg := configOf(t, d, alone)
		// Without the flag it is as it was, or alone already.
		m := open(t, cfg)
		m.replay()
		if m.Members().Len() == 1 {
			forced++
		}
		stop(t, m)
		mustForce(t, cfg)
		m = start(t, cfg)
		if m.Members().Len() != 1 || get(t, m, "k") != "v" || get(t, m, "later") != "y" {
			t.Errorf("after a crash the members are %v, k is %q", m.Members().Members(), get(t, m, "k"))
		}
		stop(t, m)
	}
	if forced == 0 || forced == len(left) {
		t.Errorf("%d of %d crashes came after the commit point: the test sees too little", forced, len(left))
	}
}

func TestForcingIsRefusedWithNothingToBeginFrom(t *testing.T) {
	t.Parallel()
	cfg := configOf(t, vfs.NewCrashableMem(), alone)
	cfg.Joining = &Joining{Cluster: 1, Member: 2}
	if err := ForceNewCluster(cfg); !errors.Is(err, ErrRefused) {
		t.Errorf("one that joined and received nothing: %v", err)
	}
	if err := ForceNewCluster(cfg); !errors.Is(err, ErrRefused) {
		t.Errorf("again: %v", err)
	}
}
