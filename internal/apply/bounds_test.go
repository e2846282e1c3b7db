package apply

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// TestAGroupEndsWhenItsAnswersAreLarge: the answers of a group are held until it is committed, and small entries may ask
// for much.
func TestAGroupEndsWhenItsAnswersAreLarge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.put("large", strings.Repeat("x", groupEffectMax/4))
	const n = 16
	var entries []*raftpb.Entry
	for range n {
		entries = append(entries, l.entry(CommandTxn, then(put("k", "v"), get("large", 0))))
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
