package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

func someKVs(tb testing.TB, n, size int) (raws [][]byte, m *etcdserverpb.RangeResponse) {
	tb.Helper()
	m = &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1 << 63, MemberId: 1 << 62, Revision: 1 << 30, RaftTerm: 5}, Count: int64(n)}
	for i := range n {
		kv := &mvccpb.KeyValue{
			Key: fmt.Appendf(nil, "/registry/pods/default/%08d", i), Value: make([]byte, size),
			CreateRevision: int64(i + 2), ModRevision: int64(i + 1<<20), Version: 3,
		}
		m.Kvs = append(m.Kvs, kv)
		raws = append(raws, marshal(tb, kv))
	}
	return raws, m
}

// BenchmarkEncodeRange encodes a RangeResponse from stored key-values; the baseline is package proto with the messages
// at hand.
func BenchmarkEncodeRange(b *testing.B) {
	for _, n := range []int{1, 500, 100_000} {
		raws, m := someKVs(b, n, 256)
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			budget, c, ctx := newBudget(0), newCodec(NewMeasures(false)), context.Background()
			b.ReportAllocs()
			b.SetBytes(int64(proto.Size(m)))
			for b.Loop() {
				r := newResponse(budget)
				r.header(header{1 << 63, 1 << 62, 1 << 30, 5})
				for _, raw := range raws {
					if err := r.field(ctx, rangeKVs, raw); err != nil {
						b.Fatal(err)
					}
				}
				if err := r.rangeTail(ctx, mvcc.RangeResult{Count: int64(n)}); err != nil {
					b.Fatal(err)
				}
				bufs, err := c.Marshal(r)
				if err != nil {
					b.Fatal(err)
				}
				bufs.Free()
			}
		})
		b.Run(fmt.Sprintf("proto/keys=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(proto.Size(m)))
			c := newCodec(NewMeasures(false)).rest
			for b.Loop() {
				bufs, err := c.Marshal(m)
				if err != nil {
					b.Fatal(err)
				}
				bufs.Free()
			}
		})
	}
}

// BenchmarkCheckRequest reads and checks requests as they come in Kubernetes.
func BenchmarkCheckRequest(b *testing.B) {
	key := []byte("/registry/pods/default/some-pod")
	for _, c := range []struct {
		m   Method
		msg proto.Message
	}{
		{MethodRange, &etcdserverpb.RangeRequest{Key: key, RangeEnd: []byte("/registry/pods0"), Limit: 500}},
		{MethodPut, &etcdserverpb.PutRequest{Key: key, Value: make([]byte, 256)}},
		{MethodTxn, &etcdserverpb.TxnRequest{
			Compare: []*etcdserverpb.Compare{{Key: key, Target: etcdserverpb.Compare_MOD, TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: 9}}},
			Success: ops{opOfPut(&etcdserverpb.PutRequest{Key: key, Value: make([]byte, 256)})},
			Failure: ops{opRange(string(key))},
		}},
	} {
		raw := marshal(b, c.msg)
		b.Run(c.m.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := NewRequest(c.m, raw)
				if err != nil {
					b.Fatal(err)
				}
				switch c.m {
				case MethodRange:
					err = checkRange(&r.get)
				case MethodPut:
					err = checkPut(&r.put)
				default:
					err = checkTxn(&r.txn, 128)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkServed are whole calls from a stock client through gRPC to a member in memory, both ends in this process.
func BenchmarkServed(b *testing.B) {
	s := newSolo(b)
	for i := range 5000 {
		put(b, s, fmt.Sprintf("/registry/pods/default/%08d", i), strings.Repeat("v", 256))
	}
	kv := etcdserverpb.NewKVClient(serve(b, s, Options{}, KVOptions{}))
	ctx := context.Background()
	one := []byte("/registry/pods/default/00000007")
	for _, c := range []struct {
		name string
		call func() error
	}{
		{"get/serializable", func() error {
			_, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: one, Serializable: true})
			return err
		}},
		{"get/linearizable", func() error {
			_, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: one})
			return err
		}},
		{"page of 500", func() error {
			_, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("/registry/"), RangeEnd: []byte("/registry0"), Limit: 500})
			return err
		}},
		{"put", func() error {
			_, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: one, Value: make([]byte, 256)})
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := c.call(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkGetHandled is a linearizable get of one key as it comes from gRPC: decoded, guarded, answered and encoded.
func BenchmarkGetHandled(b *testing.B) {
	s := newSolo(b)
	const keys = 1000
	raws := make([]mem.BufferSlice, keys)
	for i := range raws {
		key := fmt.Sprintf("/registry/benchmark/object-%06d", i)
		put(b, s, key, strings.Repeat("v", 256))
		raws[i] = mem.BufferSlice{mem.SliceBuffer(marshal(b, &etcdserverpb.RangeRequest{Key: []byte(key)}))}
	}
	m := NewMeasures(false)
	g := &guard{measures: m, hasLeader: func() bool { return true }, slow: time.Second, log: discard()}
	kv, c := NewKV(s.Member, KVOptions{Measures: m}), newCodec(m)
	m.calls["/etcdserverpb.KV/Range"] = new(Calls)
	ctx := metadata.NewIncomingContext(b.Context(), metadata.Pairs(rpctypes.MetadataClientAPIVersionKey, "3.7"))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7) % keys
		r, err := kvDesc.Methods[0].Handler(kv, ctx, func(v any) error { return c.Unmarshal(raws[i], v) }, g.unary)
		if err != nil {
			b.Fatal(err)
		}
		data, err := c.Marshal(r)
		if err != nil {
			b.Fatal(err)
		}
		data.Free()
	}
}
