package rpc

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// build makes the Response of a RangeResponse as Range does.
func build(t testing.TB, b *budget, m *etcdserverpb.RangeResponse) *Response {
	t.Helper()
	r := newResponse(b)
	h := m.GetHeader()
	r.header(header{h.GetClusterId(), h.GetMemberId(), h.GetRevision(), h.GetRaftTerm()})
	for _, kv := range m.GetKvs() {
		if err := r.field(context.Background(), rangeKVs, marshal(t, kv)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.rangeTail(context.Background(), mvcc.RangeResult{Count: m.GetCount(), More: m.GetMore()}); err != nil {
		t.Fatal(err)
	}
	return r
}

// encoded hands a response to the codec and returns what gRPC would write.
func encoded(t testing.TB, r *Response) []byte {
	t.Helper()
	want := r.Len()
	bufs, err := newCodec(NewMeasures(false)).Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	defer bufs.Free()
	b := bufs.Materialize()
	if len(b) != want {
		t.Fatalf("Len said %d, it is %d bytes", want, len(b))
	}
	return b
}

func TestResponsesAreEncodedAsByProto(t *testing.T) {
	t.Parallel()
	b := newBudget(0)
	rapid.Check(t, func(rt *rapid.T) {
		m := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{
			ClusterId: rapid.Uint64().Draw(rt, "cluster"), MemberId: rapid.Uint64().Draw(rt, "member"),
			Revision: rapid.Int64().Draw(rt, "revision"), RaftTerm: rapid.Uint64().Draw(rt, "term"),
		}, More: rapid.Bool().Draw(rt, "more"), Count: rapid.Int64().Draw(rt, "count")}
		// Sizes around those of the chunks.
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(3900, 4200), rapid.IntRange(30<<10, 70<<10),
			rapid.IntRange(200<<10, 300<<10)), 0, 12).Draw(rt, "sizes")
		for i, n := range sizes {
			m.Kvs = append(m.Kvs, &mvccpb.KeyValue{
				Key: []byte{byte(i)}, Value: bytes.Repeat([]byte{byte(i)}, n), ModRevision: int64(i),
				Lease: rapid.Int64().Draw(rt, "lease"),
			})
		}
		if got, want := encoded(t, build(t, b, m)), marshal(t, m); !bytes.Equal(got, want) {
			rt.Fatalf("%d bytes differ from proto's %d", len(got), len(want))
		}
	})
	if b.building != 0 || b.writing != 0 || len(b.order) != 0 {
		t.Errorf("the budget still counts %d and %d bytes", b.building, b.writing)
	}
}

func TestAWrappedResponseIsTheNestedMessage(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 200, 5000, 400 << 10} {
		m := &etcdserverpb.RangeResponse{Kvs: []*mvccpb.KeyValue{{Key: []byte("k"), Value: make([]byte, n)}}, Count: 7, More: true}
		r := newResponse(newBudget(0))
		if err := r.field(context.Background(), rangeKVs, marshal(t, m.Kvs[0])); err != nil {
			t.Fatal(err)
		}
		if err := r.rangeTail(context.Background(), mvcc.RangeResult{Count: 7, More: true}); err != nil {
			t.Fatal(err)
		}
		m.Header = &etcdserverpb.ResponseHeader{Revision: 5}
		r.wrap(rangeStreamResponse, header{revision: 5}.append(nil))
		want := marshal(t, &etcdserverpb.RangeStreamResponse{RangeResponse: m})
		if got := encoded(t, r); !bytes.Equal(got, want) {
			t.Errorf("value of %d bytes: %x\nwant %x", n, clip(got), clip(want))
		}
	}
}

func clip(b []byte) []byte { return b[:min(len(b), 80)] }

func TestABodyIsAttachedWhole(t *testing.T) {
	t.Parallel()
	m := newSolo(t)
	for _, n := range []int{0, 10, 60, 200, 1 << 20} {
		body := marshal(t, &etcdserverpb.PutResponse{PrevKv: &mvccpb.KeyValue{Value: make([]byte, n)}})
		s := &KV{member: m, budget: newBudget(0)}
		r, err := s.respond(9, body)
		if err != nil {
			t.Fatal(err)
		}
		got := new(etcdserverpb.PutResponse)
		if err := proto.Unmarshal(encoded(t, r), got); err != nil {
			t.Fatal(err)
		}
		if len(got.GetPrevKv().GetValue()) != n || got.GetHeader().GetRevision() != 9 || got.GetHeader().GetMemberId() != m.ID() {
			t.Errorf("body of %d: %v", n, got.GetHeader())
		}
	}
}

func TestAResponseThatGRPCCannotFrameIsRefused(t *testing.T) {
	t.Parallel()
	for _, add := range []func(r *Response) error{
		func(r *Response) error { return r.field(context.Background(), rangeKVs, make([]byte, 100)) },
		func(r *Response) error { return r.attach(make([]byte, 200)) },
	} {
		r := newResponse(newBudget(0))
		r.size = responseMax - 100 // as if it held so much
		if err := add(r); !errors.Is(err, errResponseTooLarge) {
			t.Errorf("got %v", err)
		}
	}
}

func TestOtherMessagesPassThroughGRPCsCodec(t *testing.T) {
	t.Parallel()
	c := newCodec(NewMeasures(false))
	in := &etcdserverpb.StatusResponse{Version: "3.7.1", Leader: 5}
	bufs, err := c.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out := new(etcdserverpb.StatusResponse)
	if err := c.Unmarshal(bufs, out); err != nil || !proto.Equal(in, out) {
		t.Errorf("got %v, %v", out, err)
	}
	if c.Name() != "proto" {
		t.Errorf("the codec is called %q", c.Name())
	}
	if _, err := c.Marshal(5); err == nil {
		t.Error("a number was encoded")
	}
}

func TestARequestIsWholeWhateverPiecesItCameIn(t *testing.T) {
	t.Parallel()
	raw := marshal(t, &etcdserverpb.PutRequest{Key: []byte("key"), Value: bytes.Repeat([]byte("v"), 70<<10)})
	var pieces mem.BufferSlice
	for rest := raw; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(16<<10))
		pieces = append(pieces, mem.Copy(rest[:n], mem.DefaultBufferPool()))
		rest = rest[n:]
	}
	r := &Request{method: MethodPut}
	if err := newCodec(NewMeasures(false)).Unmarshal(pieces, r); err != nil {
		t.Fatal(err)
	}
	pieces.Free()
	if !bytes.Equal(r.Raw(), raw) || string(r.put.Key) != "key" {
		t.Error("the request differs")
	}
	m, err := r.Message()
	if err != nil || len(m.(*etcdserverpb.PutRequest).GetValue()) != 70<<10 || r.Method().String() != "Put" {
		t.Errorf("%s: %v", r.Method(), err)
	}
	r.free()
}

// Whatever bytes come: they are refused exactly when package proto refuses them, with its words, and otherwise what
// we read of them is what proto reads.
func FuzzRequest(f *testing.F) {
	f.Add(byte(MethodRange), marshal(f, &etcdserverpb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b"), Limit: -1, SortOrder: 2, SortTarget: 9, Serializable: true}))
	f.Add(byte(MethodPut), marshal(f, &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("b"), Lease: -5, IgnoreLease: true}))
	f.Add(byte(MethodPut), []byte("\x0a\x01a\x0a\x01b\x7a\x01z"))
	f.Add(byte(MethodPut), []byte("\x08\x01\x0b\x0c"))
	f.Add(byte(MethodDeleteRange), marshal(f, &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true}))
	f.Add(byte(MethodTxn), marshal(f, txn(ops{opPut("a"), opTxn(ops{opDelete("b", "c")}, ops{{}})}, ops{opRange("x")})))
	f.Add(byte(MethodTxn), []byte("\x12\x03\x12\x05a"))
	f.Add(byte(MethodCompact), marshal(f, &etcdserverpb.CompactionRequest{Revision: 7, Physical: true}))
	f.Fuzz(func(t *testing.T, method byte, raw []byte) {
		m := Method(method % byte(methods))
		want := methodInfos[m].message()
		wantErr := proto.Unmarshal(raw, want)
		r, err := NewRequest(m, bytes.Clone(raw))
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
			t.Fatalf("%s %x: %v, proto says %v", m, raw, err, wantErr)
		}
		if err != nil {
			return
		}
		got, err := r.Message()
		if err != nil || !proto.Equal(got, want) {
			t.Fatalf("%s %x: %v, want %v (%v)", m, raw, got, want, err)
		}
		sameRequest(t, r, want)
		if m == MethodTxn {
			_ = checkTxn(&r.txn, 128) // must not panic
		}
	})
}

// sameRequest compares what was parsed with a message.
func sameRequest(t *testing.T, r *Request, m proto.Message) {
	t.Helper()
	same := true
	switch m := m.(type) {
	case *etcdserverpb.RangeRequest:
		g := &r.get
		same = bytes.Equal(g.Key, m.Key) && bytes.Equal(g.RangeEnd, m.RangeEnd) && g.Limit == m.Limit && g.Revision == m.Revision &&
			g.SortOrder == int32(m.SortOrder) && g.SortTarget == int32(m.SortTarget) && g.Serializable == m.Serializable &&
			g.KeysOnly == m.KeysOnly && g.CountOnly == m.CountOnly && g.MinMod == m.MinModRevision && g.MaxMod == m.MaxModRevision &&
			g.MinCreate == m.MinCreateRevision && g.MaxCreate == m.MaxCreateRevision
	case *etcdserverpb.PutRequest:
		p := &r.put
		same = bytes.Equal(p.Key, m.Key) && bytes.Equal(p.Value, m.Value) && p.Lease == m.Lease && p.PrevKV == m.PrevKv &&
			p.IgnoreValue == m.IgnoreValue && p.IgnoreLease == m.IgnoreLease
	case *etcdserverpb.DeleteRangeRequest:
		same = bytes.Equal(r.del.Key, m.Key) && bytes.Equal(r.del.RangeEnd, m.RangeEnd) && r.del.PrevKV == m.PrevKv
	case *etcdserverpb.TxnRequest:
		same = len(r.txn.Compare) == len(m.Compare) && len(r.txn.Success) == len(m.Success) && len(r.txn.Failure) == len(m.Failure)
	case *etcdserverpb.CompactionRequest:
		same = r.compact.Revision == m.Revision && r.compact.Physical == m.Physical
	}
	if !same {
		t.Fatalf("%s: parsed %+v, want %v", r.method, r, m)
	}
}
