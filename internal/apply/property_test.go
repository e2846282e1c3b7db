package apply

import (
	"context"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// drawn makes random requests over few keys, so that they meet.
type drawn struct{ *rapid.T }

func (d drawn) key() []byte {
	return []byte(rapid.SampledFrom([]string{"a", "b", "c", "d", "e/1", "e/2", "f"}).Draw(d.T, "key"))
}

func (d drawn) end() []byte {
	return []byte(rapid.SampledFrom([]string{"", "", "c", "e/2", "z", "\x00"}).Draw(d.T, "end"))
}

func (d drawn) one(of int, label string) bool { return rapid.IntRange(1, of).Draw(d.T, label) == 1 }

func (d drawn) lease() int64 { return rapid.SampledFrom([]int64{7, 8, -9}).Draw(d.T, "lease") }

func (d drawn) put() *etcdserverpb.PutRequest {
	p := &etcdserverpb.PutRequest{Key: d.key(), Value: []byte(rapid.StringN(0, 3, 8).Draw(d.T, "value")), PrevKv: d.one(2, "prev")}
	switch rapid.IntRange(0, 9).Draw(d.T, "put") {
	case 0:
		p.IgnoreValue, p.Value = true, nil
	case 1:
		p.IgnoreLease = true
	case 2, 3, 4:
		p.Lease = d.lease()
	}
	return p
}

func (d drawn) del() *etcdserverpb.DeleteRangeRequest {
	return &etcdserverpb.DeleteRangeRequest{Key: d.key(), RangeEnd: d.end(), PrevKv: d.one(2, "prev")}
}

func (d drawn) get() *etcdserverpb.RangeRequest {
	return &etcdserverpb.RangeRequest{
		Key: d.key(), RangeEnd: d.end(), Revision: rapid.SampledFrom([]int64{0, 0, 0, 0, -1, 3, 9}).Draw(d.T, "revision"),
		Limit:      rapid.Int64Range(0, 3).Draw(d.T, "limit"),
		SortOrder:  etcdserverpb.RangeRequest_SortOrder(rapid.IntRange(0, 2).Draw(d.T, "order")),
		SortTarget: etcdserverpb.RangeRequest_SortTarget(rapid.IntRange(0, 4).Draw(d.T, "target")),
		KeysOnly:   d.one(4, "keys only"), CountOnly: d.one(6, "count only"),
	}
}

func (d drawn) compare() *etcdserverpb.Compare {
	n := rapid.Int64Range(0, 6).Draw(d.T, "number")
	c := &etcdserverpb.Compare{
		Key: d.key(), RangeEnd: d.end(), Result: etcdserverpb.Compare_CompareResult(rapid.IntRange(0, 3).Draw(d.T, "result")),
	}
	switch rapid.IntRange(0, 3).Draw(d.T, "target") {
	case 0:
		c.Target, c.TargetUnion = etcdserverpb.Compare_VERSION, &etcdserverpb.Compare_Version{Version: n}
	case 1:
		c.Target, c.TargetUnion = etcdserverpb.Compare_CREATE, &etcdserverpb.Compare_CreateRevision{CreateRevision: n}
	case 2:
		c.Target, c.TargetUnion = etcdserverpb.Compare_MOD, &etcdserverpb.Compare_ModRevision{ModRevision: n}
	default:
		c.Target, c.TargetUnion = etcdserverpb.Compare_VALUE, &etcdserverpb.Compare_Value{Value: []byte("m")}
	}
	return c
}

func (d drawn) txn(deep int) *etcdserverpb.TxnRequest {
	t := &etcdserverpb.TxnRequest{}
	for range rapid.IntRange(0, 2).Draw(d.T, "compares") {
		t.Compare = append(t.Compare, d.compare())
	}
	t.Success, t.Failure = d.ops(deep), d.ops(deep)
	return t
}

// ops may put a key twice, which the layers above refuse; here it must only be decided alike.
func (d drawn) ops(deep int) (out []*etcdserverpb.RequestOp) {
	for range rapid.IntRange(0, 4).Draw(d.T, "ops") {
		switch x := rapid.IntRange(0, 9).Draw(d.T, "op"); {
		case x < 4:
			out = append(out, request(d.put()))
		case x < 6:
			out = append(out, request(d.del()))
		case x < 9:
			out = append(out, request(d.get()))
		case deep > 0:
			out = append(out, request(d.txn(deep-1)))
		default:
			out = append(out, &etcdserverpb.RequestOp{})
		}
	}
	return out
}

// entry is a random normal entry.
func (d drawn) entry(index uint64) *raftpb.Entry {
	var cmd Command
	var m proto.Message
	switch x := rapid.IntRange(0, 52).Draw(d.T, "command"); {
	case x < 12:
		cmd, m = CommandPut, d.put()
	case x < 16:
		cmd, m = CommandDeleteRange, d.del()
	case x < 25:
		cmd, m = CommandTxn, d.txn(2)
	case x < 27:
		cmd, m = CommandCompaction, &etcdserverpb.CompactionRequest{Revision: rapid.Int64Range(0, 20).Draw(d.T, "compact to")}
	case x < 28:
		cmd, m = CommandRange, d.get()
	case x < 29:
		cmd, m = CommandClusterVersionSet, &membershippb.ClusterVersionSetRequest{Ver: "3.6.0"}
	case x < 34:
		cmd, m = CommandLeaseGrant, grant(d.lease(), rapid.Int64Range(0, 9).Draw(d.T, "ttl"))
	case x < 37:
		cmd, m = CommandLeaseRevoke, revoke(d.lease())
	case x < 38:
		cmd, m = CommandLeaseCheckpoint, checkpoint(d.lease(), rapid.Int64Range(-1, 5).Draw(d.T, "remaining"), d.lease(), 3)
	case x < 51:
		cmd, m = d.account()
	default:
		return entryAt(index, nil)
	}
	raw, err := proto.Marshal(m)
	if err != nil {
		d.Fatal(err)
	}
	return entryAt(index, Encode(d.header(index), cmd, raw))
}

// hash says in a word what a lab's state is, current and past.
func (l *lab) hash() string {
	hash, compact, rev, err := l.store.HashNow(context.Background(), 0)
	l.check(err)
	index, term := l.store.Applied()
	return fmt.Sprintf("hash %08x at %d, compacted to %d, applied %d/%d, cluster %s, leases %s, accounts %s: %s",
		hash, rev, compact, term, index, l.members.Version(), l.leaseText(), l.accountText(), l.text())
}

// Entries decide alike, however they are cut into groups, compacted, flushed, replayed after a restart or a crash, and
// whether or not somebody waits for them.
func TestGroupsRestartsAndWaitersChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := drawn{rt}
		entries := d.begin()
		for range rapid.IntRange(1, 40).Draw(rt, "entries") {
			entries = append(entries, d.entry(uint64(len(entries)+1)))
		}
		single, results := newLab(t), map[uint64]string{}
		defer single.close()
		chain := map[uint64]Point{}
		for _, e := range entries {
			single.apply([]*raftpb.Entry{e}, true, results)
			chain[e.GetIndex()] = single.m.chain.Newest()
		}
		other := newLab(t)
		defer other.close()
		again := map[uint64]string{}
		for at := 0; at < len(entries); {
			n := min(len(entries)-at, rapid.IntRange(1, 12).Draw(rt, "group"))
			// The one before is offered again: it must be passed over.
			other.apply(entries[max(0, at-1):at+n], d.one(2, "waiting"), again)
			for i := range n {
				index := uint64(at + i + 1)
				if p, ok := other.m.chain.At(index); !ok || p != chain[index] {
					rt.Fatalf("the chain after entry %d is %+v, %v in a group of %d, and %+v entry by entry", index, p, ok, n, chain[index])
				}
			}
			at += n
			other.checkAttachments()
			switch rapid.IntRange(0, 7).Draw(rt, "event") {
			case 0:
				_, err := other.store.CompactStep(context.Background(), rapid.IntRange(2, 20).Draw(rt, "slice"))
				other.check(err)
			case 1:
				other.check(other.db.Flush())
			case 2:
				other.reopen(false)
			case 3:
				other.reopen(true)
				applied, _ := other.store.Applied()
				at = int(applied)
			}
		}
		if got, want := other.hash(), single.hash(); got != want {
			rt.Fatalf("the states differ:\n%s\n%s", got, want)
		}
		for id, r := range again {
			if r != results[id] {
				rt.Fatalf("the results of entry %d differ:\n%s\n%s", id, r, results[id])
			}
		}
	})
}

func (l *lab) apply(entries []*raftpb.Entry, wanted bool, results map[uint64]string) {
	l.t.Helper()
	l.check(l.m.Apply(entries, func(uint64) bool { return wanted }, func(id uint64, r Result) {
		results[id] = fmt.Sprintf("%d %d %d %x %v", r.Index, r.Term, r.Revision, r.Body, r.Err)
	}))
}
