package apply

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestTheHashOfAKnownLog fails when apply writes something else than before. The version of the hash must rise then, so
// that members of two releases do not take each other for corrupt.
func TestTheHashOfAKnownLog(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.do(CommandLeaseGrant, grant(7, 60))
	l.do(CommandPut, putOf("a", "1"))
	l.do(CommandPut, &etcdserverpb.PutRequest{Key: []byte("b"), Value: []byte("2"), Lease: 7})
	l.do(CommandPut, putOf("a", "3"))
	l.do(CommandTxn, then(put("c", "4"), put("d", "5")))
	l.do(CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 3})
	l.do(CommandDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("c")})
	l.do(CommandAlarm, &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: etcdserverpb.AlarmType_NOSPACE})
	l.do(CommandLeaseRevoke, revoke(7))
	l.do(CommandPut, putOf("e", strings.Repeat("large", 1000)))
	const want = "{Index:10 Base:0 Hash:8955810696845101665}"
	if got := fmt.Sprintf("%+v", l.m.chain.Newest()); got != want {
		t.Errorf("version %d of the chain ends with %s, it was %s", ChainVersion, got, want)
	}
}

func TestEachPartOfAnEntryChangesTheChain(t *testing.T) {
	t.Parallel()
	base := link{index: 4, base: 2, hash: 9}
	after := func(change func(index, term *uint64, revision, compacted *int64, effect *[]byte)) uint64 {
		index, term, revision, compacted, effect := uint64(5), uint64(3), int64(7), int64(-1), []byte("put")
		change(&index, &term, &revision, &compacted, &effect)
		l := base
		l.next(index, term, revision, compacted, effect)
		return l.hash
	}
	seen := map[uint64]string{after(func(*uint64, *uint64, *int64, *int64, *[]byte) {}): "nothing"}
	for name, change := range map[string]func(index, term *uint64, revision, compacted *int64, effect *[]byte){
		"the index":            func(index, _ *uint64, _, _ *int64, _ *[]byte) { *index++ },
		"the term":             func(_, term *uint64, _, _ *int64, _ *[]byte) { *term++ },
		"the revision":         func(_, _ *uint64, revision, _ *int64, _ *[]byte) { *revision++ },
		"the compact revision": func(_, _ *uint64, _, compacted *int64, _ *[]byte) { *compacted++ },
		"the effect":           func(_, _ *uint64, _, _ *int64, effect *[]byte) { *effect = []byte("puT") },
	} {
		h := after(change)
		if other, ok := seen[h]; ok {
			t.Errorf("%s changes as little as %s", name, other)
		}
		seen[h] = name
	}
}

// TestADifferenceInTheStateShowsWithTheNextWriteOfTheKey: the effect holds what was read to make it.
func TestADifferenceInTheStateShowsWithTheNextWriteOfTheKey(t *testing.T) {
	t.Parallel()
	good, bad := newLab(t), newLab(t)
	for _, l := range []*lab{good, bad} {
		l.do(CommandPut, putOf("a", "1"))
		l.do(CommandPut, putOf("b", "1"))
	}
	// What a lost write of a disk would leave: the key is not there.
	b := bad.db.NewBatch()
	bad.check(b.Delete(storage.AppendDataKey(nil, []byte("a"), 2, 0), nil))
	bad.check(bad.db.Commit(b))
	bad.check(b.Close())
	bad.reopen(false)
	for i, key := range []string{"b", "a", "b"} {
		for _, l := range []*lab{good, bad} {
			l.do(CommandPut, putOf(key, "2"))
		}
		if equal := good.m.chain.Newest() == bad.m.chain.Newest(); equal != (i == 0) {
			t.Errorf("after write %d, of %q, the chains are equal: %v", i+1, key, equal)
		}
	}
}

// TestFoundingMembersMayBeToldOtherNamesForEachOther, as those are that find each other by DNS: a member's name is its own affair
// until it has told it.
func TestFoundingMembersMayBeToldOtherNamesForEachOther(t *testing.T) {
	t.Parallel()
	one, other := newLab(t), newLab(t)
	changes := func(l *lab, a, b string) {
		for i, c := range []struct {
			kind raftpb.ConfChangeType
			x    cluster.Member
		}{
			{raftpb.ConfChangeAddNode, cluster.Member{ID: 1, PeerURLs: []string{"http://a"}, Name: a}},
			{raftpb.ConfChangeAddNode, cluster.Member{ID: 2, PeerURLs: []string{"http://b"}, Name: b}},
			{raftpb.ConfChangeUpdateNode, cluster.Member{ID: 2, PeerURLs: []string{"http://c"}}},
		} {
			e := confChange(t, uint64(i+1), c.kind, uint64(c.x.ID), c.x)
			cc, err := l.m.CheckConfChange(e)
			l.check(err)
			l.check(l.m.FinishConfChange(e, cc, &raftpb.ConfState{Voters: []uint64{1, 2}}, func(uint64, Result) {}))
		}
		l.last = 3
	}
	changes(one, "a", "0")
	changes(other, "0", "b")
	for _, l := range []*lab{one, other} {
		l.reopen(false)
		l.do(CommandClusterMemberAttrSet, &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: 2, MemberAttributes: &membershippb.Attributes{Name: "b", ClientUrls: []string{"http://d"}},
		})
	}
	if a, b := one.m.chain.Newest(), other.m.chain.Newest(); a != b {
		t.Errorf("their chains end with %+v and %+v", a, b)
	}
	if x, _ := one.members.Member(1); x.Name != "a" {
		t.Errorf("the name that it was told is not kept: %+v", x)
	}
	third := newLab(t)
	changes(third, "a", "0")
	third.do(CommandClusterMemberAttrSet, &membershippb.ClusterMemberAttrSetRequest{
		Member_ID: 2, MemberAttributes: &membershippb.Attributes{Name: "c", ClientUrls: []string{"http://d"}},
	})
	if a, b := one.m.chain.Newest(), third.m.chain.Newest(); a == b {
		t.Errorf("a name that was told otherwise does not show: both chains end with %+v", a)
	}
}

func TestEpochsBeginAtCommonIndexes(t *testing.T) {
	t.Parallel()
	var first, late link
	late = link{base: 7, lastBase: 7, index: 7} // began with a state of etcd at entry 7
	var ended uint64
	for index := uint64(1); index <= epochEntries+3; index++ {
		first.next(index, 1, int64(index), -1, []byte("x"))
		if index > 7 {
			late.next(index, 1, int64(index), -1, []byte("x"))
		}
		if index == epochEntries {
			ended = first.hash
			if first.base != 0 || late.base != 7 || first.hash == late.hash {
				t.Fatalf("at the end of the epoch: %+v and %+v", first, late)
			}
		}
	}
	if first.base != epochEntries || first.lastBase != 0 || first.lastHash != ended {
		t.Errorf("the next epoch is %+v, the one before ended with %x", first, ended)
	}
	if late.base != first.base || late.hash != first.hash || late.lastBase != 7 {
		t.Errorf("in the next epoch the one that began late is %+v, the other %+v", late, first)
	}
}

func TestPointsAreRememberedAcrossAnEpochAndUpToABound(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c, err := LoadChain(l.db, 5)
	l.check(err)
	want := map[uint64]Point{5: {5, 5, 0}}
	for index := uint64(6); index <= epochEntries+20; index++ {
		x := c.extend()
		x.entry(index, 1, int64(index), -1, nil)
		x.publish()
		base := uint64(5)
		if index > epochEntries {
			base = epochEntries
		}
		want[index] = Point{index, base, x.link.hash}
		if got := c.Newest(); got != want[index] {
			t.Fatalf("newest: got %+v, want %+v", got, want[index])
		}
		if index%1000 == 0 || index > epochEntries {
			for _, at := range []uint64{index - 1, index - 9, index - min(index-5, pointsMax-1)} {
				if got, ok := c.At(at); !ok || got != want[at] {
					t.Fatalf("at %d of %d: got %+v %v, want %+v", at, index, got, ok, want[at])
				}
			}
		}
	}
	if got, ok := c.EndOfEpoch(); !ok || got != want[epochEntries] {
		t.Errorf("the end of the epoch is %+v %v, want %+v", got, ok, want[epochEntries])
	}
	for _, at := range []uint64{0, 4, 5, epochEntries + 20 - pointsMax, epochEntries + 21} {
		if got, ok := c.At(at); ok {
			t.Errorf("entry %d is remembered: %+v", at, got)
		}
	}
}

func TestAChainOfAnotherVersionBeginsAnEpoch(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.do(CommandPut, putOf("a", "1"))
	for name, c := range map[string]struct {
		record []byte
		fails  bool
	}{
		"another version":            {[]byte{9, 1, 2, 3}, false},
		"cut short":                  {[]byte{ChainVersion, 0, 0, 1, 2}, true},
		"empty":                      {nil, true},
		"a base above what is there": {(&link{base: 2}).encode(), true},
		"epochs in the wrong order":  {(&link{base: 0, lastBase: 1}).encode(), true},
	} {
		b := l.db.NewBatch()
		l.check(errors.Join(b.Set(chainKey, c.record, nil), l.db.Commit(b), b.Close()))
		chain, err := LoadChain(l.db, 1)
		switch {
		case c.fails != errors.Is(err, storage.ErrCorrupt):
			t.Errorf("%s: error %v", name, err)
		case !c.fails && chain.Newest() != Point{Index: 1, Base: 1}:
			t.Errorf("%s: begins at %+v", name, chain.Newest())
		}
	}
}

func FuzzDecodeLink(f *testing.F) {
	f.Add((&link{base: 70000, hash: 1 << 63, lastBase: 3, lastHash: 5}).encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, known, err := decodeLink(b)
		if err != nil || !known {
			return
		}
		if again, known, err := decodeLink(l.encode()); again != l || !known || err != nil {
			t.Errorf("%+v is read again as %+v, %v, %v", l, again, known, err)
		}
	})
}

// BenchmarkChain is what the chain adds to the entry of BenchmarkPut.
func BenchmarkChain(b *testing.B) {
	l := newLab(b)
	var es []*raftpb.Entry
	for range 256 {
		es = append(es, l.entry(CommandPut, &etcdserverpb.PutRequest{Key: make([]byte, 32), Value: make([]byte, 256)}))
	}
	wrote := make([]byte, 470)
	c := l.m.chain
	for i := 0; b.Loop(); i++ {
		if i%len(es) == 0 {
			x := c.extend()
			for _, e := range es {
				x.entry(e.GetIndex(), e.GetTerm(), 1, 1, wrote)
			}
			x.publish()
		}
	}
}

func putOf(key, value string) *etcdserverpb.PutRequest {
	return &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)}
}
