package apply

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// lapsing is a context that ends when it was asked left times.
type lapsing struct {
	context.Context
	left int
}

func (l *lapsing) Err() error {
	if l.left == 0 {
		return context.Canceled
	}
	l.left--
	return nil
}

// TestATransactionThatReadsEndsWithItsRequest also in the middle of what it reads, whether that is given out or not.
func TestATransactionThatReadsEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for i := range 2*askEvery + 1 {
		l.put(fmt.Sprintf("k%06d", i), "v")
	}
	v, err := l.store.View(0)
	l.check(err)
	defer func() { l.check(v.Close()) }()
	all := func(change func(*etcdserverpb.RangeRequest)) *etcdserverpb.TxnRequest {
		r := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
		change(r)
		return then(r)
	}
	for name, txn := range map[string]*etcdserverpb.TxnRequest{
		"a range":      all(func(r *etcdserverpb.RangeRequest) {}),
		"one of keys":  all(func(r *etcdserverpb.RangeRequest) { r.KeysOnly = true }),
		"one of few":   all(func(r *etcdserverpb.RangeRequest) { r.MinModRevision = 1 << 40 }),
		"a sorted one": all(func(r *etcdserverpb.RangeRequest) { r.SortTarget = etcdserverpb.RangeRequest_VALUE }),
		"a nested one": then(all(func(r *etcdserverpb.RangeRequest) {})),
		"several":      then(get("k000001", 0), get("k000002", 0), get("k000003", 0)),
		"a condition": {Compare: []*etcdserverpb.Compare{{Key: []byte("k"), RangeEnd: []byte("l"),
			Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_GREATER}}},
	} {
		if _, _, err := ReadTxn(&lapsing{t.Context(), 2}, v, parseTxn(t, txn), new(Counts), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := ReadTxn(&lapsing{t.Context(), 20}, v, parseTxn(t, txn), new(Counts), nil); err != nil {
			t.Errorf("%s that somebody waits for: %v", name, err)
		}
	}
}
