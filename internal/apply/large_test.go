package apply

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// TestWhatWantsNoValueReadsNoLargeOne: the large values are gone, as on a damaged disk, so that only what reads one finds out.
func TestWhatWantsNoValueReadsNoLargeOne(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 5000)
	when := func(c *etcdserverpb.Compare) *etcdserverpb.TxnRequest {
		c.Key = []byte("a")
		return &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{c}}
	}
	all := func(c *etcdserverpb.Compare) *etcdserverpb.TxnRequest {
		c.RangeEnd = []byte("c")
		return when(c)
	}
	mod := func() *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_GREATER, TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: 1}}
	}
	version := func() *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Target: etcdserverpb.Compare_VERSION, TargetUnion: &etcdserverpb.Compare_Version{Version: 1}}
	}
	create := func() *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_LESS, TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: 4}}
	}
	leaseOf := func() *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Target: etcdserverpb.Compare_LEASE, TargetUnion: &etcdserverpb.Compare_Lease{Lease: 77}}
	}
	value := func() *etcdserverpb.Compare {
		return &etcdserverpb.Compare{Target: etcdserverpb.Compare_VALUE, TargetUnion: &etcdserverpb.Compare_Value{Value: []byte(large)}}
	}
	for name, c := range map[string]struct {
		txn   *etcdserverpb.TxnRequest
		reads bool
	}{
		"the revision":              {when(mod()), false},
		"the version":               {when(version()), false},
		"the revision of creation":  {when(create()), false},
		"the lease":                 {when(leaseOf()), false},
		"the value":                 {when(value()), true},
		"revisions":                 {all(mod()), false},
		"versions":                  {all(version()), false},
		"revisions of creation":     {all(create()), false},
		"leases":                    {all(leaseOf()), false},
		"values":                    {all(value()), true},
		"a put that keeps a lease":  {then(&etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("new"), IgnoreLease: true}), false},
		"a put that keeps a value":  {then(&etcdserverpb.PutRequest{Key: []byte("a"), IgnoreValue: true}), true},
		"a put of a key that is so": {then(put("a", "new")), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, damaged := range []bool{false, true} {
				l := newLab(t)
				l.check(l.do(CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 77, TTL: 1000}).Err)
				l.check(l.do(CommandPut, leased(put("a", large))).Err)
				l.check(l.do(CommandPut, leased(put("b", large))).Err)
				if damaged {
					lower, upper := storage.SpaceBounds(storage.SpaceLarge)
					b := l.db.NewBatch()
					l.check(errors.Join(b.DeleteRange(lower, upper, nil), l.db.Commit(b), b.Close()))
				}
				var got Result
				err := l.m.Apply([]*raftpb.Entry{l.entry(CommandTxn, c.txn)}, func(uint64) bool { return true }, func(_ uint64, r Result) { got = r })
				if damaged && c.reads {
					if !errors.Is(err, storage.ErrCorrupt) {
						t.Errorf("without large values: %v", err)
					}
					continue
				}
				answer := new(etcdserverpb.TxnResponse)
				l.check(errors.Join(err, got.Err, proto.Unmarshal(got.Body, answer)))
				if !answer.Succeeded {
					t.Errorf("damaged: %v: it does not hold", damaged)
				}
			}
		})
	}
}
