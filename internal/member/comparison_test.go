package member

import (
	"errors"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

func TestOnlyAMajorityOfTheVotersProves(t *testing.T) {
	t.Parallel()
	own := apply.Point{Index: 9, Base: 3, Hash: 100}
	same, other, third := peer.Point(own), peer.Point{Index: 9, Base: 3, Hash: 200}, peer.Point{Index: 9, Base: 3, Hash: 300}
	elsewhere := peer.Point{Index: 9, Base: 5, Hash: 200}
	three, five := []cluster.ID{1, 2, 3}, []cluster.ID{1, 2, 3, 4, 5}
	type told = map[cluster.ID]peer.Point
	cases := map[string]struct {
		self                       cluster.ID
		voters                     []cluster.ID
		told                       told
		never                      map[cluster.ID]bool
		differ, wrong, right, open bool
	}{
		"all alike":                              {1, three, told{2: same, 3: same}, nil, false, false, true, false},
		"one against two":                        {1, three, told{2: other, 3: other}, nil, true, true, false, false},
		"two against one":                        {1, three, told{2: same, 3: other}, nil, true, false, true, false},
		"three that all differ":                  {1, three, told{2: other, 3: third}, nil, true, false, false, false},
		"one against one, the third is silent":   {1, three, told{2: other}, nil, true, false, false, true},
		"one against one, the third is of etcd":  {1, three, told{2: other}, map[cluster.ID]bool{3: true}, true, false, false, false},
		"one that is alone to be asked":          {1, three, nil, map[cluster.ID]bool{2: true, 3: true}, false, false, false, false},
		"one against two of five":                {1, five, told{2: other, 3: other}, nil, true, false, false, true},
		"one against three of five":              {1, five, told{2: other, 3: other, 4: other}, nil, true, true, false, true},
		"two against three of five":              {1, five, told{2: same, 3: other, 4: other, 5: other}, nil, true, true, false, false},
		"another epoch says nothing":             {1, three, told{2: elsewhere, 3: elsewhere}, nil, false, false, false, false},
		"a learner against the voters":           {9, three, told{1: other, 2: other, 3: third}, nil, true, true, false, false},
		"a learner among voters that all differ": {9, three, told{1: other, 2: same, 3: third}, nil, true, false, false, false},
		"two members":                            {1, []cluster.ID{1, 2}, told{2: other}, nil, true, false, false, false},
		"point of another index":                 {1, three, told{2: {Index: 8, Base: 3, Hash: 1}, 3: {Index: 8, Base: 3, Hash: 1}}, nil, false, false, false, false},
	}
	for name, c := range cases {
		v := judge(c.self, own, c.voters, c.told, c.never)
		if v.differ != c.differ || v.wrong != c.wrong || v.right != c.right || v.open != c.open {
			t.Errorf("%s: differ %v, wrong %v, right %v, open %v", name, v.differ, v.wrong, v.right, v.open)
		}
		if (v.wrong || v.right) != (len(v.majority) > len(c.voters)/2) || slices.Contains(v.majority, c.self) != (v.right && c.self != 9) {
			t.Errorf("%s: the majority is %v", name, v.majority)
		}
	}
}

// tells is what another voter says of its chain.
func tells(id cluster.ID, p peer.Point) heard {
	return heard{id: id, chain: peer.Chain{Version: apply.ChainVersion, Point: &p}}
}

// says nothing of any use: it is down, of etcd, of a release with another hash, or has forgotten the point.
func mutes(p peer.Point) map[string]heard {
	older := tells(2, p)
	older.chain.Version--
	return map[string]heard{
		"one that is down":      {id: 2, err: errors.New("connection refused")},
		"one of etcd":           {id: 2, err: &peer.Refusal{Status: http.StatusNotFound}},
		"one of another hash":   older,
		"one that has no point": {id: 2, chain: peer.Chain{Version: apply.ChainVersion}},
	}
}

func TestADifferenceIsOneOfHashesThatCanBeCompared(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	for range 5 {
		put(t, m, "a", "v")
	}
	chain := m.Chain()
	at := func(back uint64) peer.Point {
		p, ok := chain.At(chain.Newest().Index - back)
		if !ok {
			t.Fatalf("the point %d before the newest is not there", back)
		}
		return peer.Point(p)
	}
	other := func(back uint64) peer.Point { p := at(back); p.Hash++; return p }
	elsewhere, ahead := other(1), other(0)
	elsewhere.Base++
	ahead.Index++
	newest := chain.Newest().Index
	cases := map[string]struct {
		all    []heard
		index  uint64
		differ bool
	}{
		"nobody":                  {nil, 0, false},
		"all alike":               {[]heard{tells(1, at(0)), tells(2, at(3))}, 0, false},
		"one differs":             {[]heard{tells(1, at(0)), tells(2, other(2))}, newest - 2, true},
		"two differ, newer first": {[]heard{tells(1, other(1)), tells(2, other(3))}, newest - 1, true},
		"two differ, newer last":  {[]heard{tells(1, other(3)), tells(2, other(1))}, newest - 1, true},
		"of another base":         {[]heard{tells(1, elsewhere)}, 0, false},
		"of one that is ahead":    {[]heard{tells(1, ahead)}, 0, false},
	}
	for name, c := range cases {
		x := comparison{m: m}
		if index, differ := x.difference(chain, c.all); index != c.index || differ != c.differ {
			t.Errorf("%s: at %d, %v; want %d, %v", name, index, differ, c.index, c.differ)
		}
	}
	for name, mute := range mutes(other(0)) {
		x := comparison{m: m}
		if index, differ := x.difference(chain, []heard{mute}); differ {
			t.Errorf("%s: it differs at %d", name, index)
		}
	}
}

// TestWhoWasNotComparedWithAllComparesAgain: a member looks no more before it has applied something once all voters had its newest hash. One that
// was silent may be the one that differs.
func TestWhoWasNotComparedWithAllComparesAgain(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	put(t, m, "a", "v")
	put(t, m, "b", "v")
	chain := m.Chain()
	newest := chain.Newest()
	before, ok := chain.At(newest.Index - 1)
	if !ok {
		t.Fatal("the point before the newest is not there")
	}
	elsewhere := peer.Point(newest)
	elsewhere.Base++
	agrees := tells(1, peer.Point(newest))
	cases := mutes(peer.Point(newest))
	cases["one that is behind"] = tells(2, peer.Point(before))
	cases["one of another base"] = tells(2, elsewhere)
	for name, x := range cases {
		c := comparison{m: m}
		if c.settle(t.Context(), chain, []heard{agrees, x}, newest); c.agreed == newest {
			t.Errorf("%s: all have agreed", name)
		}
	}
	c := comparison{m: m}
	if c.settle(t.Context(), chain, []heard{agrees, tells(2, peer.Point(newest))}, newest); c.agreed != newest {
		t.Errorf("all that agree have agreed at %+v, not at %+v", c.agreed, newest)
	}
}

// TestWhatFollowsFromADifference tells a member again and again what the others' answers come to.
func TestWhatFollowsFromADifference(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	for m.Members().Version() == "" { // what this member proposes by itself
		runtime.Gosched()
		if t.Context().Err() != nil {
			t.Fatal("no version was decided")
		}
	}
	c := &m.comparison
	nobody, open, right := verdict{differ: true}, verdict{differ: true, open: true}, verdict{differ: true, right: true}
	conclude := func(v verdict, times int) {
		for range times {
			c.conclude(m.gen.Load(), m.Chain().Newest(), v)
		}
	}
	expect := func(what string, alarmed bool) {
		t.Helper()
		_, err := m.Propose(t.Context(), apply.CommandPut, putRequest(t, "k", what)) // which comes behind an alarm
		if alarmed != errors.Is(err, apply.ErrCorrupt) || !alarmed && err != nil {
			t.Fatalf("%s: a write: %v", what, err)
		}
		if all := m.Alarms().List(); alarmed != slices.Equal(all, []cluster.Alarm{{Member: 0, Type: cluster.AlarmCorrupt}}) || !alarmed && len(all) > 0 {
			t.Errorf("%s: the alarms are %v", what, all)
		}
	}
	lower := func() (index uint64) {
		t.Helper()
		off := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_DEACTIVATE, Alarm: etcdserverpb.AlarmType_CORRUPT}
		if _, err := m.Propose(t.Context(), apply.CommandAlarm, encoded(t, off)); err != nil {
			t.Fatal(err)
		}
		return m.log.LastIndex()
	}

	conclude(open, comparisonPatience-1)
	expect("as long as somebody may decide it", false)
	if err := m.givable(); !errors.Is(err, errUnsure) {
		t.Errorf("a state that may be wrong is given away: %v", err)
	}
	conclude(right, 1)
	if err := m.givable(); err != nil {
		t.Errorf("a state that is right is not given away: %v", err)
	}
	conclude(open, comparisonPatience-1)
	expect("when it begins anew", false)
	conclude(open, 1)
	expect("when nobody has decided it for long", true)
	last := m.log.LastIndex()
	conclude(open, 3)
	if index := lower(); index != last+1 {
		t.Errorf("%d entries followed the alarm before it was lowered", index-last-1)
	}
	conclude(right, 1)
	expect("when it was lowered", false)
	conclude(nobody, 1)
	expect("when nobody can decide it", true)
	lower()
	if m.Trusted() != nil {
		t.Error("a member takes itself for wrong although no majority says so")
	}
	conclude(verdict{differ: true, wrong: true}, 1)
	if !errors.Is(m.Trusted(), ErrUntrusted) || !m.rebuild.pending() {
		t.Errorf("a member that is wrong: %v", m.Trusted())
	}
	expect("when it is known who is wrong", false)
}
