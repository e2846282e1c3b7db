package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// TestWhatIsHeldToMakeAResponseCounts: sorted ranges, read-only transactions and the keys of a lease wait for the budget like
// any large range, and leave nothing behind in it.
func TestWhatIsHeldToMakeAResponseCounts(t *testing.T) {
	t.Parallel()
	const keys, size = 40, 100 << 10 // above what is free
	s := newSolo(t)
	kv := NewKV(s, KVOptions{ResponseBudget: 1 << 20})
	leases := NewLease(s)
	leases.ShareBudget(kv)
	ctx := t.Context()
	if _, _, err := s.LeaseGrant(ctx, 7, 1000); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		put := &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, "k%02d%0*d", i, size, 0), Value: make([]byte, size), Lease: 7}
		r, err := kv.Put(ctx, request(t, MethodPut, put))
		if err != nil {
			t.Fatal(err)
		}
		r.drop()
	}
	all := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
	one := proto.Clone(all).(*etcdserverpb.RangeRequest)
	one.SortTarget, one.SortOrder, one.Limit = etcdserverpb.RangeRequest_MOD, etcdserverpb.RangeRequest_DESCEND, 1
	txn := &etcdserverpb.TxnRequest{Success: []*etcdserverpb.RequestOp{
		{Request: &etcdserverpb.RequestOp_RequestRange{RequestRange: all}},
	}}
	cases := map[string]struct {
		do    func(ctx context.Context) (*Response, error)
		least int // bytes of the answer
	}{
		"a sort of which little is given out": {func(ctx context.Context) (*Response, error) {
			return kv.Range(ctx, request(t, MethodRange, one))
		}, size},
		"a transaction that only reads": {func(ctx context.Context) (*Response, error) {
			return kv.Txn(ctx, request(t, MethodTxn, txn))
		}, keys * size},
		"the keys of a lease": {func(ctx context.Context) (*Response, error) {
			return leases.timeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: 7, Keys: true})
		}, keys * size},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { // one after another: they share the budget
			r, err := c.do(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if r.Len() < c.least {
				t.Errorf("the answer has %d bytes, want %d at least", r.Len(), c.least)
			}
			r.drop()

			holder := &share{b: kv.budget}
			mustGrow(t, grower(ctx, holder, 1<<20))
			holder.finish() // a client that does not read
			waiting, cancel := context.WithCancel(ctx)
			done := make(chan error, 1)
			go func() {
				r, err := c.do(waiting)
				if r != nil {
					r.drop()
				}
				done <- err
			}()
			waits(t, kv.budget, done)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
			holder.written(1 << 20)
			if b := kv.budget; b.building != 0 || b.writing != 0 || len(b.order) != 0 || len(b.handed) != 0 {
				t.Errorf("left: %d %d %d %d", b.building, b.writing, len(b.order), len(b.handed))
			}
		})
	}
}

// request is a request as the codec makes it.
func request(t *testing.T, method Method, message proto.Message) *Request {
	t.Helper()
	raw, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	r := &Request{method: method}
	if err := r.decode(raw); err != nil {
		t.Fatal(err)
	}
	return r
}
