package rpc

import (
	"context"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// full has no space for more than left bytes.
type full struct {
	*solo
	left int64
}

func (f full) CheckSpace(_ context.Context, cost int64) error {
	if cost > f.left {
		return apply.ErrNoSpace
	}
	return nil
}

func putOp(key, value string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{
		RequestPut: &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)},
	}}
}

func TestWhatTheQuotaRefuses(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := NewKV(full{s, 300}, KVOptions{})
	long := string(make([]byte, 400))
	nested := &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{
		RequestTxn: &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{putOp("a", long)}},
	}}
	deletion := &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(long)},
	}}
	for _, c := range []struct {
		name    string
		call    func(*KV, context.Context, *Request) (*Response, error)
		method  Method
		message []byte
		refused bool
	}{
		{"a small put", (*KV).Put, MethodPut, marshal(t, &etcdserverpb.PutRequest{Key: []byte("a")}), false},
		{"a large put", (*KV).Put, MethodPut, marshal(t, &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte(long)}), true},
		{"a bad put that is large", (*KV).Put, MethodPut, marshal(t, &etcdserverpb.PutRequest{Value: []byte(long)}), true},
		{"small puts that are large together", (*KV).Txn, MethodTxn,
			marshal(t, &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{putOp("a", ""), putOp("b", ""), putOp("c", "")}}), true},
		{"the same in two branches", (*KV).Txn, MethodTxn,
			marshal(t, &etcdserverpb.TxnRequest{
				Success: []*etcdserverpb.RequestOp{putOp("a", ""), putOp("b", "")}, Failure: []*etcdserverpb.RequestOp{putOp("c", "")},
			}), false},
		{"a nested put", (*KV).Txn, MethodTxn,
			marshal(t, &etcdserverpb.TxnRequest{Failure: []*etcdserverpb.RequestOp{nested}}), true},
		{"a transaction that deletes", (*KV).Txn, MethodTxn,
			marshal(t, &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{deletion}}), false},
		{"a delete", (*KV).DeleteRange, MethodDeleteRange, marshal(t, &etcdserverpb.DeleteRangeRequest{Key: []byte(long)}), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			req, err := NewRequest(c.method, c.message)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.call(kv, t.Context(), req)
			if got := toStatus(err); c.refused && got != rpctypes.ErrGRPCNoSpace || !c.refused && err != nil {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestAlarmsByRequest(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	m := NewMaintenance(nil, func() Status { return Status{} })
	if _, err := m.Alarm(t.Context(), &etcdserverpb.AlarmRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without a member: %v", err)
	}
	m.Alarms = s
	_, before := s.counts()
	if _, err := m.Alarm(t.Context(), &etcdserverpb.AlarmRequest{Action: 3}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an unknown action: %v", err)
	}
	if _, after := s.counts(); after != before {
		t.Error("an unknown action was proposed")
	}
	for _, action := range []etcdserverpb.AlarmRequest_AlarmAction{
		etcdserverpb.AlarmRequest_ACTIVATE, etcdserverpb.AlarmRequest_GET, etcdserverpb.AlarmRequest_DEACTIVATE,
	} {
		got, err := m.Alarm(t.Context(), &etcdserverpb.AlarmRequest{Action: action, MemberID: 7, Alarm: etcdserverpb.AlarmType_CORRUPT})
		if err != nil {
			t.Fatal(err)
		}
		clusterID, memberID, term := s.Header()
		if h := got.GetHeader(); h.GetClusterId() != clusterID || h.GetMemberId() != memberID || h.GetRaftTerm() != term || h.GetRevision() != 1 {
			t.Errorf("%s: the header is %v", action, h)
		}
		if a := got.GetAlarms(); len(a) != 1 || a[0].GetMemberID() != 7 || a[0].GetAlarm() != etcdserverpb.AlarmType_CORRUPT {
			t.Errorf("%s: the alarms are %v", action, a)
		}
		if action == etcdserverpb.AlarmRequest_DEACTIVATE {
			break
		}
		if err := toStatus(putError(t, s)); err != rpctypes.ErrGRPCCorrupt {
			t.Errorf("a put while data differ: %v", err)
		}
	}
	if err := putError(t, s); err != nil {
		t.Error(err)
	}
}

func putError(t *testing.T, s *solo) error {
	t.Helper()
	_, err := s.Propose(t.Context(), apply.CommandPut, marshal(t, &etcdserverpb.PutRequest{Key: []byte("k")}))
	return err
}
