package apply

import (
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// BenchmarkPut is a put in the state machine: keys of 32 bytes, values of 256, over 100,000 keys, somebody waiting.
func BenchmarkPut(b *testing.B) {
	for _, group := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			benchmark(b, group, CommandPut, func(key []byte) proto.Message {
				return &etcdserverpb.PutRequest{Key: key, Value: make([]byte, 256)}
			})
		})
	}
}

// BenchmarkTxn is the write that Kubernetes makes: if the mod revision is as seen, put, else get.
func BenchmarkTxn(b *testing.B) {
	benchmark(b, 16, CommandTxn, func(key []byte) proto.Message {
		return &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{{
				Key: key, Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_GREATER,
				TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: -1},
			}},
			Success: []*etcdserverpb.RequestOp{request(&etcdserverpb.PutRequest{Key: key, Value: make([]byte, 256)})},
			Failure: []*etcdserverpb.RequestOp{request(&etcdserverpb.RangeRequest{Key: key})},
		}
	})
}

func benchmark(b *testing.B, group int, cmd Command, message func(key []byte) proto.Message) {
	l := newLab(b)
	entries := make([]*raftpb.Entry, b.N)
	for i := range entries {
		entries[i] = l.entry(cmd, message(fmt.Appendf(nil, "/registry/pods/default/%09d", i*7919%100_000)))
	}
	results := 0
	b.ReportAllocs()
	b.ResetTimer()
	for at := 0; at < len(entries); at += group {
		l.check(l.m.Apply(entries[at:min(at+group, len(entries))],
			func(uint64) bool { return true }, func(uint64, Result) { results++ }))
	}
	b.StopTimer()
	if results != b.N {
		b.Fatalf("%d results", results)
	}
}

// BenchmarkParseTxn parses that same transaction.
func BenchmarkParseTxn(b *testing.B) {
	raw, err := proto.Marshal(then(put("/registry/pods/default/000000001", "value"), get("/registry/pods/default/000000001", 0)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTxn(raw); err != nil {
			b.Fatal(err)
		}
	}
}
