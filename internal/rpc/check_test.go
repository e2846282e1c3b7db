package rpc

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

type ops = []*etcdserverpb.RequestOp

func opRange(key string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: &etcdserverpb.RangeRequest{Key: []byte(key)}}}
}

func opPut(key string) *etcdserverpb.RequestOp {
	return opOfPut(&etcdserverpb.PutRequest{Key: []byte(key)})
}

func opOfPut(p *etcdserverpb.PutRequest) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: p}}
}

func opDelete(key, end string) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &etcdserverpb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)},
	}}
}

func opTxn(success, failure ops) *etcdserverpb.RequestOp {
	return &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestTxn{RequestTxn: txn(success, failure)}}
}

func txn(success, failure ops) *etcdserverpb.TxnRequest {
	return &etcdserverpb.TxnRequest{Success: success, Failure: failure}
}

func many(n int) (o ops) {
	for i := range n {
		o = append(o, opPut(fmt.Sprint(i)))
	}
	return o
}

// verdict runs the checks of a method on an encoded message, as handlers do.
func verdict(t testing.TB, m Method, msg proto.Message) error {
	t.Helper()
	r, err := NewRequest(m, marshal(t, msg))
	if err != nil {
		t.Fatal(err)
	}
	switch m {
	case MethodRange:
		return checkRange(&r.get)
	case MethodRangeStream:
		return checkRangeStream(&r.get)
	case MethodPut:
		return checkPut(&r.put)
	case MethodDeleteRange:
		return checkDeleteRange(&r.del)
	default:
		return checkTxn(&r.txn, 128)
	}
}

// What etcd 3.7.1 answers to these was asked of it.
func TestChecksOfSingleRequests(t *testing.T) {
	t.Parallel()
	key := []byte("k")
	for _, c := range []struct {
		name string
		m    Method
		msg  proto.Message
		want error
	}{
		{"a range needs a key", MethodRange, &etcdserverpb.RangeRequest{RangeEnd: key}, rpctypes.ErrGRPCEmptyKey},
		{"a missing key is told before a bad sort", MethodRange, &etcdserverpb.RangeRequest{SortOrder: 9}, rpctypes.ErrGRPCEmptyKey},
		{"an unknown order", MethodRange, &etcdserverpb.RangeRequest{Key: key, SortOrder: 3}, rpctypes.ErrGRPCInvalidSortOption},
		{"a negative order", MethodRange, &etcdserverpb.RangeRequest{Key: key, SortOrder: -1}, rpctypes.ErrGRPCInvalidSortOption},
		{"an unknown target", MethodRange, &etcdserverpb.RangeRequest{Key: key, SortTarget: 5}, rpctypes.ErrGRPCInvalidSortOption},
		{"the last order and target", MethodRange, &etcdserverpb.RangeRequest{Key: key, SortOrder: 2, SortTarget: 4}, nil},
		{"negative numbers elsewhere", MethodRange, &etcdserverpb.RangeRequest{Key: key, Limit: -1, Revision: -1, MinModRevision: -1}, nil},
		{"a stream with filters", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, MaxCreateRevision: 1}, errStreamFilters},
		{"a stream sorted and filtered", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, SortOrder: 2, MinModRevision: 1}, errStreamSort},
		{"a bad sort is told before what streams lack", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, SortOrder: 9, MinModRevision: 1}, rpctypes.ErrGRPCInvalidSortOption},
		{"a stream ascending by key", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, SortOrder: 1}, nil},
		{"a stream ascending by value", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, SortOrder: 1, SortTarget: 4}, errStreamSort},
		{"a stream with a target and no order", MethodRangeStream, &etcdserverpb.RangeRequest{Key: key, SortTarget: 4}, nil},
		{"a put needs a key", MethodPut, &etcdserverpb.PutRequest{Value: key, IgnoreValue: true}, rpctypes.ErrGRPCEmptyKey},
		{"a value that is to be ignored", MethodPut, &etcdserverpb.PutRequest{Key: key, Value: key, IgnoreValue: true}, rpctypes.ErrGRPCValueProvided},
		{"a lease that is to be ignored", MethodPut, &etcdserverpb.PutRequest{Key: key, Lease: -1, IgnoreLease: true}, rpctypes.ErrGRPCLeaseProvided},
		{"both ignored", MethodPut, &etcdserverpb.PutRequest{Key: key, IgnoreLease: true, IgnoreValue: true}, nil},
		{"a delete needs a key", MethodDeleteRange, &etcdserverpb.DeleteRangeRequest{RangeEnd: key}, rpctypes.ErrGRPCEmptyKey},
		{"a delete of all", MethodDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := verdict(t, c.m, c.msg); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestChecksOfTransactions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		txn  *etcdserverpb.TxnRequest
		want error
	}{
		{"an empty one", txn(nil, nil), nil},
		{"128 operations", txn(many(128), many(128)), nil},
		{"129 operations", txn(many(129), nil), rpctypes.ErrGRPCTooManyOps},
		{"129 operations in the other branch", txn(nil, many(129)), rpctypes.ErrGRPCTooManyOps},
		{"129 compares", &etcdserverpb.TxnRequest{Compare: make([]*etcdserverpb.Compare, 129)}, rpctypes.ErrGRPCTooManyOps},
		{"the outer list counts against the nested one", txn(ops{opTxn(many(128), nil)}, nil), rpctypes.ErrGRPCTooManyOps},
		{"127 operations nested in one", txn(ops{opTxn(many(127), nil)}, nil), nil},
		{"100 nested beside 100", txn(append(many(100), opTxn(many(100), nil)), nil), rpctypes.ErrGRPCTooManyOps},
		{"a compare without a key", &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{{}}}, rpctypes.ErrGRPCEmptyKey},
		{"a nested compare without a key", txn(ops{{Request: &etcdserverpb.RequestOp_RequestTxn{
			RequestTxn: &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{{}}},
		}}}, nil), rpctypes.ErrGRPCEmptyKey},
		{"an operation that says nothing", txn(ops{{}}, nil), rpctypes.ErrGRPCKeyNotFound},
		{"the branch not taken is checked too", txn(nil, ops{opPut("")}), rpctypes.ErrGRPCEmptyKey},
		{"keys are checked before duplicates", txn(ops{opPut("a"), opPut("a")}, ops{opPut("")}), rpctypes.ErrGRPCEmptyKey},
		{"a put inside is checked", txn(ops{opOfPut(&etcdserverpb.PutRequest{Key: []byte("a"), Lease: 1, IgnoreLease: true})}, nil), rpctypes.ErrGRPCLeaseProvided},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := verdict(t, MethodTxn, c.txn); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestDuplicateKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		success, failure ops
		duplicate        bool
	}{
		{"one put twice", ops{opPut("a"), opPut("a")}, nil, true},
		{"twice in the failure branch", nil, ops{opPut("a"), opPut("b"), opPut("a")}, true},
		{"once in each branch", ops{opPut("a")}, ops{opPut("a")}, false},
		{"put, then delete", ops{opPut("a"), opDelete("a", "")}, nil, true},
		{"delete, then put", ops{opDelete("a", ""), opPut("a")}, nil, true},
		{"a put in a deleted range", ops{opPut("b"), opDelete("a", "c")}, nil, true},
		{"a put at the start of a deleted range", ops{opDelete("b", "c"), opPut("b")}, nil, true},
		{"a put at the end of a deleted range", ops{opPut("c"), opDelete("a", "c")}, nil, false},
		{"a delete to the end of all keys does not count", ops{opPut("c"), opDelete("b", "\x00")}, nil, false},
		{"nor one of all keys", ops{opDelete("\x00", "\x00"), opPut("a")}, nil, false},
		{"a delete of nothing", ops{opDelete("z", "a"), opPut("m"), opPut("z")}, nil, false},
		{"overlapping deletes", ops{opDelete("a", "z"), opDelete("b", "c"), opDelete("b", "")}, nil, false},
		{"a put behind overlapping deletes", ops{opDelete("a", "x"), opDelete("b", "c"), opPut("d")}, nil, true},
		{"a put between deletes", ops{opDelete("a", "b"), opDelete("c", "d"), opDelete("bb", ""), opPut("b")}, nil, false},
		{"reads are no writes", ops{opRange("a"), opPut("a"), opRange("a")}, nil, false},
		{"an outer put and a nested one", ops{opPut("a"), opTxn(ops{opPut("a")}, nil)}, nil, true},
		{"an outer put and one nested in the failure branch", ops{opPut("a"), opTxn(nil, ops{opPut("a")})}, nil, true},
		{"branches of a nested one exclude each other", ops{opTxn(ops{opPut("a")}, ops{opPut("a")})}, nil, false},
		{"a put and a delete that exclude each other", ops{opTxn(ops{opPut("a")}, ops{opDelete("a", "")})}, nil, false},
		{"two nested puts", ops{opTxn(ops{opPut("a")}, nil), opTxn(nil, ops{opPut("a")})}, nil, true},
		{"a put after both branches had it", ops{opTxn(ops{opPut("a")}, ops{opPut("a")}), opTxn(nil, ops{opPut("a")})}, nil, true},
		{"an outer delete and a nested put", ops{opDelete("a", ""), opTxn(ops{opPut("a")}, nil)}, nil, true},
		{"a nested delete and an outer put", ops{opTxn(ops{opDelete("a", "")}, nil), opPut("a")}, nil, true},
		{"a nested delete, then a nested put", ops{opTxn(ops{opDelete("a", "c")}, nil), opTxn(nil, ops{opPut("b")})}, nil, true},
		{"a nested put, then a nested delete: etcd does not see it", ops{opTxn(ops{opPut("a")}, nil), opTxn(ops{opDelete("a", "")}, nil)}, nil, false},
		{"deep below", ops{opPut("a"), opTxn(ops{opTxn(ops{opTxn(nil, ops{opPut("a")})}, nil)}, nil)}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := verdict(t, MethodTxn, txn(c.success, c.failure))
			if c.duplicate != (err != nil) || c.duplicate && !errors.Is(err, rpctypes.ErrGRPCDuplicateKey) {
				t.Errorf("got %v, want a duplicate: %v", err, c.duplicate)
			}
		})
	}
}
