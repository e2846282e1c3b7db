package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/mvcc"
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

// formerly is a member that has views of a former state until it was asked to catch up.
type formerly struct {
	*solo
	former []*mvcc.View
}

func (b *formerly) View(rev int64) (*mvcc.View, error) {
	if len(b.former) == 0 {
		return b.solo.View(rev)
	}
	v := b.former[0]
	b.former = b.former[1:]
	return v, nil
}

func (b *formerly) ReadBarrier(ctx context.Context) error {
	for _, v := range b.former {
		_ = v.Close()
	}
	b.former = nil
	return b.solo.ReadBarrier(ctx)
}

// TestADeletionWhoseAnswerIsTooLargeIsNotCarriedOut: what it deletes would be told to nobody.
func TestADeletionWhoseAnswerIsTooLargeIsNotCarriedOut(t *testing.T) {
	t.Parallel()
	m := &formerly{solo: newSolo(t)}
	const keys = 40
	value := strings.Repeat("v", 300)
	for i := range keys {
		put(t, m.solo, fmt.Sprintf("k%02d", i), value)
	}
	each := int64(3 + proto.Size(&mvccpb.KeyValue{Key: []byte("k00"), Value: []byte(value), CreateRevision: 2, ModRevision: 2, Version: 1}))
	var former []*mvcc.View
	for range 3 {
		v, err := m.View(0)
		if err != nil {
			t.Fatal(err)
		}
		former = append(former, v)
	}
	s := NewKV(m, KVOptions{})
	del := func(end string, prevKV bool, max int64) error {
		s.answerMax = max
		r := request(t, MethodDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: []byte("k"), RangeEnd: []byte(end), PrevKv: prevKV})
		_, err := s.DeleteRange(t.Context(), r)
		return err
	}
	for _, max := range []int64{keys*each - 1, each, 0} {
		if err := del("l", true, max); !errors.Is(err, errAnswerTooLarge) {
			t.Errorf("an answer of %d bytes, where %d are allowed: %v", keys*each, max, err)
		}
	}
	if _, proposed := m.counts(); proposed != keys {
		t.Errorf("%d were proposed", proposed-keys)
	}
	if err := del("k10", true, 10*each); err != nil {
		t.Errorf("a part of the keys: %v", err)
	}
	m.former = former
	if err := del("k20", true, 10*each); err != nil {
		t.Errorf("a part that is smaller by now: %v", err)
	}
	if len(m.former) != 0 {
		t.Error("the member did not catch up")
	}
	if err := del("l", false, 0); err != nil {
		t.Errorf("without an answer: %v", err)
	}
	if err := del("l", true, 0); err != nil {
		t.Errorf("no keys: %v", err)
	}
}

func delOp(key, end string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}
