package apply

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestADiskThatFailsEndsTheMachineAndChangesNoAnswer, whichever read of a request fails: another member, whose disk is whole, carries the
// same request out.
func TestADiskThatFailsEndsTheMachineAndChangesNoAnswer(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("x", 20_000)
	compare := func(r *etcdserverpb.Compare) *etcdserverpb.TxnRequest {
		r.Result, r.Target, r.Key = etcdserverpb.Compare_GREATER, etcdserverpb.Compare_VALUE, []byte("key3")
		r.TargetUnion = &etcdserverpb.Compare_Value{Value: []byte("a")}
		return &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{r},
			Success: []*etcdserverpb.RequestOp{request(put("was", "greater"))}, Failure: []*etcdserverpb.RequestOp{request(put("was", "not"))},
		}
	}
	for name, c := range map[string]struct {
		cmd Command
		msg proto.Message
	}{
		"a put":                       {CommandPut, put("key3", "new")},
		"a put that wants the last":   {CommandPut, &etcdserverpb.PutRequest{Key: []byte("key3"), PrevKv: true}},
		"a put of the same value":     {CommandPut, &etcdserverpb.PutRequest{Key: []byte("key3"), IgnoreValue: true}},
		"a put of the same lease":     {CommandPut, &etcdserverpb.PutRequest{Key: []byte("key3"), IgnoreLease: true}},
		"a deletion":                  {CommandDeleteRange, del("key3", "")},
		"a deletion of several":       {CommandDeleteRange, del("key2", "key5")},
		"a deletion that wants them":  {CommandDeleteRange, &etcdserverpb.DeleteRangeRequest{Key: []byte("key2"), RangeEnd: []byte("key5"), PrevKv: true}},
		"a condition":                 {CommandTxn, compare(&etcdserverpb.Compare{})},
		"a condition of a range":      {CommandTxn, compare(&etcdserverpb.Compare{RangeEnd: []byte("key5")})},
		"a read after a write":        {CommandTxn, then(put("a", "b"), get("key3", 0))},
		"a read of the past":          {CommandTxn, then(put("a", "b"), get("key3", 5))},
		"a deletion in a transaction": {CommandTxn, then(put("a", "b"), del("key2", "key5"))},
		"the end of a lease":          {CommandLeaseRevoke, &etcdserverpb.LeaseRevokeRequest{ID: 7}},
		"a compaction":                {CommandCompaction, &etcdserverpb.CompactionRequest{Revision: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.check(l.do(CommandLeaseGrant, &etcdserverpb.LeaseGrantRequest{ID: 7, TTL: 60}).Err)
			for i := range 8 {
				r := l.do(CommandPut, &etcdserverpb.PutRequest{Key: fmt.Append(nil, "key", i), Value: []byte(text), Lease: 7})
				l.check(r.Err)
			}
			l.check(l.db.Flush())
			entries, base := []*raftpb.Entry{l.entry(c.cmd, c.msg)}, l.fs

			want, failed := "", 0
			for at := int64(0); ; at++ { // at 0 none fails
				var reads atomic.Int64
				x := &lab{t: t, fs: base.CrashClone(vfs.CrashCloneCfg{}), last: l.last}
				x.wrap = func(fs vfs.FS) vfs.FS {
					return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
						if op.Kind.ReadOrWrite() == errorfs.OpIsRead && bytes.Contains(debug.Stack(), []byte(".Apply(")) && reads.Add(1) == at {
							return errorfs.ErrInjected
						}
						return nil
					}))
				}
				x.open()
				got := ""
				err := x.m.Apply(entries, func(uint64) bool { return true }, func(_ uint64, r Result) { got = fmt.Sprintf("%q %v ", r.Body, r.Err) })
				if err == nil {
					got += x.text()
				}
				_ = x.db.Close() // it may have an error to tell
				switch {
				case at == 0 && err != nil:
					t.Fatal(err)
				case at == 0:
					want = got
				case err != nil && !errors.Is(err, errorfs.ErrInjected):
					t.Fatalf("read %d: %v", at, err)
				case err != nil:
					failed++
				case got != want:
					t.Errorf("read %d failed, and it is %.300s; it should be %.300s", at, got, want)
				case reads.Load() < at:
					if failed == 0 && c.cmd != CommandCompaction {
						t.Errorf("no read fails of %d", at-1)
					}
					return
				}
			}
		})
	}
}
