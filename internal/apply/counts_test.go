package apply

import (
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestOperationsAreCountedAsByEtcd: the figures are what etcd 3.7.1's counters grew by at the same requests.
func TestOperationsAreCountedAsByEtcd(t *testing.T) {
	t.Parallel()
	type grown struct{ puts, deletes, ranges, txns uint64 }
	has := func(key string) *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Key: []byte(key), Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_GREATER}
	}
	when := func(t *etcdserverpb.TxnRequest, cs ...*etcdserverpb.Compare) *etcdserverpb.TxnRequest {
		t.Compare = cs
		return t
	}
	prev := func(p *etcdserverpb.PutRequest) *etcdserverpb.PutRequest { p.PrevKv = true; return p }
	keepValue := func(key string) *etcdserverpb.PutRequest {
		return &etcdserverpb.PutRequest{Key: []byte(key), IgnoreValue: true}
	}
	erased := func(key, end string) *etcdserverpb.DeleteRangeRequest {
		return &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end), PrevKv: true}
	}
	for name, c := range map[string]struct {
		cmd  Command
		msg  proto.Message
		want grown
	}{
		"a put":                                     {CommandPut, put("a", "1"), grown{1, 0, 0, 0}},
		"a put that tells what was before":          {CommandPut, prev(put("a", "1")), grown{1, 0, 1, 1}},
		"the same of a new key":                     {CommandPut, prev(put("n", "1")), grown{1, 0, 1, 1}},
		"a put that keeps the value":                {CommandPut, keepValue("a"), grown{1, 0, 1, 1}},
		"one that has none to keep":                 {CommandPut, keepValue("n"), grown{0, 0, 1, 0}},
		"one that keeps and tells the value":        {CommandPut, prev(keepValue("a")), grown{1, 0, 1, 1}},
		"a put on a lease that is not there":        {CommandPut, on(7, put("a", "1")), grown{}},
		"a delete":                                  {CommandDeleteRange, del("a", ""), grown{0, 1, 0, 0}},
		"a delete of many":                          {CommandDeleteRange, del("a", "z"), grown{0, 1, 0, 0}},
		"a delete that tells what was before":       {CommandDeleteRange, erased("a", "z"), grown{0, 1, 1, 1}},
		"the same where nothing was":                {CommandDeleteRange, erased("n", ""), grown{0, 1, 1, 1}},
		"a transaction of nothing":                  {CommandTxn, then(), grown{}},
		"of a put":                                  {CommandTxn, then(put("a", "1")), grown{1, 0, 0, 0}},
		"of two puts":                               {CommandTxn, then(put("a", "1"), put("b", "1")), grown{2, 0, 0, 1}},
		"of a put and a range":                      {CommandTxn, then(put("a", "1"), get("a", 0)), grown{1, 0, 1, 1}},
		"of a delete and a put":                     {CommandTxn, then(del("x", ""), put("a", "1")), grown{1, 1, 0, 1}},
		"of a put on a condition":                   {CommandTxn, when(then(put("a", "1")), has("a")), grown{1, 0, 1, 0}},
		"on two conditions":                         {CommandTxn, when(then(put("a", "1")), has("a"), has("b")), grown{1, 0, 2, 1}},
		"on two, of which the first does not hold":  {CommandTxn, when(then(put("a", "1")), has("n"), has("a")), grown{0, 0, 1, 0}},
		"on two, of which the second does not hold": {CommandTxn, when(then(put("a", "1")), has("a"), has("n")), grown{0, 0, 2, 1}},
		"of a put that tells what was before":       {CommandTxn, then(prev(put("a", "1"))), grown{1, 0, 2, 1}},
		"of a put that keeps the value":             {CommandTxn, then(keepValue("a")), grown{1, 0, 2, 1}},
		"of one that keeps and tells the value":     {CommandTxn, then(prev(keepValue("a"))), grown{1, 0, 2, 1}},
		"of one that has none to keep":              {CommandTxn, then(keepValue("n")), grown{0, 0, 1, 0}},
		"of a delete that tells what was before":    {CommandTxn, then(erased("a", "")), grown{0, 1, 1, 1}},
		"of a put and a range of the future":        {CommandTxn, then(put("a", "1"), get("a", 100)), grown{}},
		"of a transaction on a condition":           {CommandTxn, then(when(then(put("a", "1")), has("a"))), grown{1, 0, 1, 0}},
		"a compaction":                              {CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 2}, grown{0, 0, 1, 0}},
		"a compaction of the future":                {CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 100}, grown{}},
		"the end of a lease of one key":             {CommandLeaseRevoke, revoke(1), grown{0, 1, 0, 0}},
		"the end of a lease of two keys":            {CommandLeaseRevoke, revoke(2), grown{0, 2, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.put("a", "1")
			l.put("b", "1")
			for id, keys := range map[int64][]string{1: {"l1"}, 2: {"l2", "l3"}} {
				l.do(CommandLeaseGrant, grant(id, 1000))
				for _, key := range keys {
					l.do(CommandPut, on(id, put(key, "1")))
				}
			}
			now := func() grown {
				n := l.m.counts
				return grown{n.Puts.Value(), n.Deletes.Value(), n.Ranges.Value(), n.Txns.Value()}
			}
			before := now()
			l.do(c.cmd, c.msg)
			after := now()
			got := grown{after.puts - before.puts, after.deletes - before.deletes, after.ranges - before.ranges, after.txns - before.txns}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestReadsAreCountedAsByEtcd: a transaction that only reads is one of the store's.
func TestReadsAreCountedAsByEtcd(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.put("a", "1")
	has := func(key string) *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Key: []byte(key), Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_GREATER}
	}
	for _, c := range []struct {
		name         string
		compare      []*etcdserverpb.Compare
		ops          []proto.Message
		ranges, txns uint64
	}{
		{"a range", nil, []proto.Message{get("a", 0)}, 1, 0},
		{"two ranges", nil, []proto.Message{get("a", 0), get("b", 0)}, 2, 1},
		{"a range on a condition", []*etcdserverpb.Compare{has("a")}, []proto.Message{get("a", 0)}, 2, 1},
		{"a condition", []*etcdserverpb.Compare{has("a")}, nil, 1, 0},
		{"two conditions", []*etcdserverpb.Compare{has("a"), has("a")}, nil, 2, 1},
		{"a range of the future", nil, []proto.Message{get("a", 100)}, 0, 0},
		{"a range of the future on a condition", []*etcdserverpb.Compare{has("a")}, []proto.Message{get("a", 100)}, 1, 0},
	} {
		x := then(c.ops...)
		x.Compare = c.compare
		v, err := l.store.View(0)
		l.check(err)
		var counts Counts
		_, _, _ = ReadTxn(t.Context(), v, parseTxn(t, x), &counts, nil) // some are refused
		l.check(v.Close())
		if ranges, txns := counts.Ranges.Value(), counts.Txns.Value(); ranges != c.ranges || txns != c.txns {
			t.Errorf("%s: %d ranges and %d transactions, want %d and %d", c.name, ranges, txns, c.ranges, c.txns)
		}
	}
}
