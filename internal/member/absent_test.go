package member

import (
	"math"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// TestTheLogIsKeptForThoseThatItStillReaches names how much log there is above each entry: its distance to entry 100.
func TestTheLogIsKeptForThoseThatItStillReaches(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		needs map[cluster.ID]uint64
		mark  uint64
		most  uint64 // of log that is kept
		left  cluster.ID
		want  uint64
	}{
		"nobody is away": {map[cluster.ID]uint64{2: 100, 3: 90}, 10, 100, 0, 90},
		"one is away":    {map[cluster.ID]uint64{2: 40, 3: 99}, 10, 100, 0, 40},
		"two are away, and the first of them needs more":  {map[cluster.ID]uint64{2: 40, 3: 60}, 10, 100, 0, 40},
		"one has all that is left, and needs the rest":    {map[cluster.ID]uint64{2: 10}, 10, 100, 0, 10},
		"one needs more than there is":                    {map[cluster.ID]uint64{2: 9}, 10, 100, 0, 90},
		"one needs too much":                              {map[cluster.ID]uint64{2: 40}, 10, 59, 0, 90},
		"one needs as much as may be":                     {map[cluster.ID]uint64{2: 40}, 10, 60, 0, 40},
		"one needs too much, the other one does not":      {map[cluster.ID]uint64{2: 40, 3: 60}, 10, 59, 0, 60},
		"one needs what is gone, the other one does not":  {map[cluster.ID]uint64{2: 5, 3: 60}, 10, 100, 0, 60},
		"one is left out, the other one needs less":       {map[cluster.ID]uint64{2: 40, 3: 60}, 10, 100, 2, 60},
		"one that is left out is the only one":            {map[cluster.ID]uint64{2: 40}, 10, 100, 2, 90},
		"a number that is no difference of signed ones":   {map[cluster.ID]uint64{2: math.MaxUint64, 3: 60}, 10, 100, 0, 60},
		"there are no others":                             {nil, 10, 100, 0, 90},
		"one that is behind as little as anybody may be":  {map[cluster.ID]uint64{2: 90}, 10, 100, 0, 90},
		"one that is behind by one more than anybody may": {map[cluster.ID]uint64{2: 89}, 10, 100, 0, 89},
	}
	for name, c := range cases {
		a := absent{needs: c.needs}
		got := a.above(90, c.mark, func(from uint64) bool { return 100-(from-1) > c.most }, func(id cluster.ID) bool { return id == c.left })
		if got != c.want {
			t.Errorf("%s: the log is kept above %d, want %d", name, got, c.want)
		}
	}
}

func TestLogForThoseThatAreAwayCostsNoMoreThanASnapshot(t *testing.T) {
	t.Parallel()
	for state, want := range map[uint64]uint64{0: 4 << 20, 5 << 20: 5 << 20, 10 << 30: 512 << 20} {
		if got := absentLog(state); got != want {
			t.Errorf("a state of %d bytes: %d bytes of the log are kept, want %d", state, got, want)
		}
	}
}

// TestWhatOthersNeedIsLearnt at a leader that hears nothing of them: only connections tell.
func TestWhatOthersNeedIsLearnt(t *testing.T) {
	t.Parallel()
	active := time.Time{}
	m := growing(t, vfs.NewCrashableMem(), func(c *Config) { c.ActiveSince = func(uint64) time.Time { return active } })
	defer stop(t, m)
	for range 10 {
		put(t, m, "k", "v")
	}
	var a absent
	expect := func(what string, want map[cluster.ID]uint64) {
		t.Helper()
		a.look(m)
		if len(a.needs) != len(want) {
			t.Errorf("%s: %v, want %v", what, a.needs, want)
		}
		for id, need := range want {
			if got, ok := a.needs[id]; !ok || got != need {
				t.Errorf("%s: member %x needs the log above %d, %v, want %d", what, id, got, ok, need)
			}
		}
	}
	expect("alone", nil)
	x := mustAdd(t, m, true, "http://127.0.0.1:11")
	expect("one that was added and never started", nil)
	err := m.proposeInternal(t.Context(), &etcdserverpb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
		Member_ID: uint64(x), MemberAttributes: &membershippb.Attributes{Name: "other"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	expect("one that was never connected needs all that there is", map[cluster.ID]uint64{x: 0})
	active = time.Unix(1, 0)
	connected := m.node.Applied() - m.cfg.SnapshotCatchUpEntries
	expect("one that is connected", map[cluster.ID]uint64{x: connected})
	active = time.Time{}
	put(t, m, "k", "v")
	expect("one that is connected no more", map[cluster.ID]uint64{x: connected})
	if err := m.RemoveMember(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	expect("one that was removed", nil)
}
