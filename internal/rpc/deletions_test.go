package rpc

import (
	"context"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

func TestHowManyKeysOneRequestMayDelete(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	for i := range 20 {
		put(t, s, fmt.Sprintf("k%02d", i), "v")
	}
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{DeleteKeysMax: 10}))
	ctx := context.Background()
	_, before := s.counts()

	for _, c := range []struct {
		name string
		ops  []*etcdserverpb.RequestOp
		code codes.Code
	}{
		{"too many", []*etcdserverpb.RequestOp{delOp("k", "l")}, codes.ResourceExhausted},
		{"too many together", []*etcdserverpb.RequestOp{delOp("k00", "k06"), delOp("k10", "k15")}, codes.ResourceExhausted},
		{"too many in a nested transaction", []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestTxn{
			RequestTxn: &etcdserverpb.TxnRequest{Failure: []*etcdserverpb.RequestOp{delOp("k", "\x00")}},
		}}}, codes.ResourceExhausted},
		{"the same range twice", []*etcdserverpb.RequestOp{delOp("k00", "k06"), delOp("k00", "k06")}, codes.OK},
		{"nothing", []*etcdserverpb.RequestOp{delOp("l", "k")}, codes.OK},
	} {
		if _, err := kv.Txn(ctx, &etcdserverpb.TxnRequest{Success: c.ops}); status.Code(err) != c.code {
			t.Errorf("a transaction that deletes %s: %v", c.name, err)
		}
	}
	_, err := kv.DeleteRange(ctx, &etcdserverpb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte{0}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a range with too many keys: %v", err)
	}
	if _, after := s.counts(); after != before+2 {
		t.Errorf("%d requests were proposed, want the 2 that were answered", after-before)
	}
	for _, end := range []string{"k10", "l"} {
		if _, err := kv.DeleteRange(ctx, &etcdserverpb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte(end)}); err != nil {
			t.Errorf("a range up to %s: %v", end, err)
		}
	}
}

func TestHowLongTheKeysMayBeThatOneRequestDeletes(t *testing.T) {
	t.Parallel()
	m := newSolo(t)
	for i := range deleteKeysFew + 1 {
		put(t, m, fmt.Sprintf("k%04d", i), "v")
	}
	s := NewKV(m, KVOptions{})
	s.deleteBytesMax = 5 * deleteKeysFew
	all := &apply.DeleteRange{Key: []byte("k"), RangeEnd: []byte("l")}
	if err := s.checkDeletion(t.Context(), all); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("keys that are too long together: %v", err)
	}
	few := &apply.DeleteRange{Key: []byte("k"), RangeEnd: []byte("k0400")}
	if err := s.checkDeletion(t.Context(), few); err != nil {
		t.Errorf("few keys: %v", err)
	}
	s.deleteBytesMax += 5
	if err := s.checkDeletion(t.Context(), all); err != nil {
		t.Errorf("keys that are just short enough: %v", err)
	}
}

func delOp(key, end string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}
