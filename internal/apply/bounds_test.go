package apply

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestAGroupEndsWhenItDoesMuch: the answers of a group are held until it is committed, and its writes are one batch. Small entries may ask
// for much of either.
func TestAGroupEndsWhenItDoesMuch(t *testing.T) {
	t.Parallel()
	for name, txn := range map[string]*etcdserverpb.TxnRequest{
		"to answer": then(put("k", "v"), get("large", 0)),
		"to write":  then(keepValue("large")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.put("large", strings.Repeat("x", groupEffectMax/4))
			const n = 16
			var entries []*raftpb.Entry
			for range n {
				entries = append(entries, l.entry(CommandTxn, txn))
			}
			before, first, results := l.store.Revision(), int64(0), 0
			err := l.m.Apply(entries, func(uint64) bool { return true }, func(_ uint64, r Result) {
				l.check(r.Err)
				if results++; results == 1 {
					first = l.store.Revision() - before
				}
			})
			l.check(err)
			if results != n || l.store.Revision() != before+n {
				t.Errorf("%d results, revision %d after %d", results, l.store.Revision(), before)
			}
			if first != 4 {
				t.Errorf("the first group had %d entries, want 4", first)
			}
		})
	}
}

// TestWhatATransactionReadsIsBounded: the writes of one that reads too much happen, since members at which nobody waits
// do not read at all.
func TestWhatATransactionReadsIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.put("a", strings.Repeat("x", 600))
	txn := parseTxn(t, then(get("a", 0), get("a", 0), put("b", "1"), get("a", 0)))

	w := l.store.NewWriter()
	w.Begin()
	p, err := decide(w, txn)
	l.check(err)
	x := executor{w: w, from: w, revision: w.Revision, want: true, left: 1000, counts: new(Counts)}
	_, err = x.run(p)
	l.check(err)
	if !errors.Is(x.unread, ErrTooLarge) {
		t.Errorf("one that writes is answered with %v", x.unread)
	}
	if _, changed := w.End(); !changed {
		t.Error("its write did not happen")
	}
	w.Discard()

	v, err := l.store.View(0)
	l.check(err)
	defer func() { l.check(v.Close()) }()
	txn = parseTxn(t, then(get("a", 0), &etcdserverpb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b")}))
	p, err = decide(v, txn)
	l.check(err)
	x = executor{from: v, revision: v.Current, want: true, left: 1000, counts: new(Counts)}
	if _, err = x.run(p); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one that reads is answered with %v", err)
	}
}

// TestWhatADeletionTellsIsBounded: it happens, and what was there is not gathered beyond the bound.
func TestWhatADeletionTellsIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, key := range []string{"a", "b", "c"} {
		l.put(key, strings.Repeat("x", 300))
	}
	all := &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("d"), PrevKv: true}
	for name, c := range map[string]struct {
		max  int
		keys int // in the answer, -1 for none
	}{
		"all of it fits":      {1000, 3},
		"the last one is out": {900, -1},
		"all are out":         {100, -1},
	} {
		w := l.store.NewWriter()
		w.Begin()
		body, unread, err := erase(w, &DeleteRange{Key: all.Key, RangeEnd: all.RangeEnd, PrevKV: true}, true, c.max, new(Counts))
		l.check(err)
		answer := new(etcdserverpb.DeleteRangeResponse)
		l.check(proto.Unmarshal(body, answer))
		if c.keys < 0 {
			if !errors.Is(unread, ErrTooLarge) || len(body) > 0 {
				t.Errorf("%s: %v, with %d bytes", name, unread, len(body))
			}
		} else if unread != nil || len(answer.PrevKvs) != c.keys || answer.Deleted != 3 {
			t.Errorf("%s: %v, %d of %d keys", name, unread, len(answer.PrevKvs), answer.Deleted)
		}
		if n := len(w.Events()); n != 3 {
			t.Errorf("%s: %d keys were deleted", name, n)
		}
		w.End()
		w.Discard()

		w = l.store.NewWriter()
		w.Begin()
		p, err := decide(w, parseTxn(t, then(all, put("a", "again"))))
		l.check(err)
		x := executor{w: w, from: w, revision: w.Revision, want: true, left: c.max, counts: new(Counts)}
		_, err = x.run(p)
		l.check(err)
		if errors.Is(x.unread, ErrTooLarge) != (c.keys < 0) || len(w.Events()) != 4 {
			t.Errorf("%s, in a transaction: %v after %d changes", name, x.unread, len(w.Events()))
		}
		w.End()
		w.Discard()
	}
}
