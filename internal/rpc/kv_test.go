package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/member"
)

// code fails the test unless err has the code and the text.
func wantStatus(t *testing.T, err error, want error) {
	t.Helper()
	g, w := status.Convert(err), status.Convert(want)
	if g.Code() != w.Code() || g.Message() != w.Message() {
		t.Errorf("got %v, want %v", g, w)
	}
}

func TestAStockClientSeesEtcd(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	ctx := context.Background()

	_, _, term := s.Header()
	p, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("1")})
	wantHeader := func(h *etcdserverpb.ResponseHeader, rev int64) {
		t.Helper()
		want := &etcdserverpb.ResponseHeader{ClusterId: s.ClusterID(), MemberId: s.ID(), Revision: rev, RaftTerm: term}
		if !proto.Equal(h, want) {
			t.Errorf("header %v, want %v", h, want)
		}
	}
	if err != nil || p.PrevKv != nil {
		t.Fatal(p, err)
	}
	wantHeader(p.Header, 2)
	p, err = kv.Put(ctx, &etcdserverpb.PutRequest{Key: []byte("a"), Value: []byte("2"), PrevKv: true})
	if err != nil || string(p.GetPrevKv().GetValue()) != "1" {
		t.Fatal(p, err)
	}
	r, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a"), Revision: 2})
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "1" || r.Count != 1 {
		t.Fatal(r, err)
	}
	wantHeader(r.Header, 3)
	d, err := kv.DeleteRange(ctx, &etcdserverpb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true})
	if err != nil || d.Deleted != 1 || string(d.PrevKvs[0].Value) != "2" {
		t.Fatal(d, err)
	}
	wantHeader(d.Header, 4)
	x, err := kv.Txn(ctx, txn(ops{opPut("b"), opRange("b")}, nil))
	if err != nil || !x.Succeeded || x.Responses[1].GetResponseRange().GetCount() != 1 {
		t.Fatal(x, err)
	}
	wantHeader(x.Header, 5)
	c, err := kv.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: 4, Physical: true})
	if err != nil {
		t.Fatal(err)
	}
	wantHeader(c.Header, 5)
	_, err = kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a"), Revision: 2})
	wantStatus(t, err, rpctypes.ErrGRPCCompacted)
	_, err = kv.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: 99})
	wantStatus(t, err, rpctypes.ErrGRPCFutureRev)
	_, err = kv.Put(ctx, &etcdserverpb.PutRequest{})
	wantStatus(t, err, rpctypes.ErrGRPCEmptyKey)
}

func TestWhatReadsDemand(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	put(t, s, "a", "1")
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	serial := func(key string) *etcdserverpb.RequestOp {
		o := opRange(key)
		o.GetRequestRange().Serializable = true
		return o
	}
	ask := func(r *etcdserverpb.TxnRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := kv.Txn(ctx, r); return err }
	}
	get := func(r *etcdserverpb.RangeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := kv.Range(ctx, r); return err }
	}
	key := []byte("a")
	for _, c := range []struct {
		name              string
		ask               func(context.Context) error
		barrier, proposed int
	}{
		{"a range waits", get(&etcdserverpb.RangeRequest{Key: key}), 1, 0},
		{"a range at an old revision waits too", get(&etcdserverpb.RangeRequest{Key: key, Revision: 1}), 1, 0},
		{"a serializable one does not", get(&etcdserverpb.RangeRequest{Key: key, Serializable: true}), 0, 0},
		{"a transaction that only reads stays out of the log", ask(txn(ops{opRange("a")}, ops{opTxn(ops{opRange("b")}, nil)})), 1, 0},
		{"one of serializable ranges does not wait", ask(txn(ops{serial("a")}, ops{serial("b")})), 0, 0},
		{"one range that is not makes it wait", ask(txn(ops{serial("a")}, ops{opRange("b")})), 1, 0},
		{"a write in a branch of a branch goes through the log", ask(txn(nil, ops{opTxn(nil, ops{opPut("b")})})), 0, 1},
	} {
		barriers, proposed := s.counts()
		if err := c.ask(context.Background()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		b, p := s.counts()
		if b-barriers != c.barrier || p-proposed != c.proposed {
			t.Errorf("%s: %d barriers and %d proposals, want %d and %d", c.name, b-barriers, p-proposed, c.barrier, c.proposed)
		}
	}

	s.setRefuse(fmt.Errorf("waiting: %w", member.ErrTimeout))
	wantStatus(t, get(&etcdserverpb.RangeRequest{Key: key})(context.Background()), rpctypes.ErrGRPCTimeout)
	wantStatus(t, get(&etcdserverpb.RangeRequest{Key: key, SortOrder: 7})(context.Background()), rpctypes.ErrGRPCInvalidSortOption)
	wantStatus(t, get(&etcdserverpb.RangeRequest{Key: key, Serializable: true})(context.Background()), nil)
}

// fill puts n keys with values of up to size bytes, some of them twice.
func fill(t testing.TB, s *solo, n, size int) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		put(t, s, fmt.Sprintf("key%05d", rnd.IntN(n*3/4)), strings.Repeat("v", 1+rnd.IntN(size))+fmt.Sprint(i))
	}
}

func TestRangeStreamMergedIsRange(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	fill(t, s, 400, 20<<10)
	put(t, s, "key00000big", strings.Repeat("b", 900<<10))
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	for _, r := range []*etcdserverpb.RangeRequest{
		{Key: []byte("key00007")},
		{Key: []byte("none")},
		{Key: []byte("key"), RangeEnd: []byte("l")},
		{Key: []byte{0}, RangeEnd: []byte{0}},
		{Key: []byte("key"), RangeEnd: []byte("l"), Limit: 50},
		{Key: []byte("key"), RangeEnd: []byte("l"), Limit: 1, Serializable: true},
		{Key: []byte("key"), RangeEnd: []byte("l"), Limit: -1, Revision: 100},
		{Key: []byte("key"), RangeEnd: []byte("l"), KeysOnly: true},
		{Key: []byte("key"), RangeEnd: []byte("l"), CountOnly: true},
		{Key: []byte("key"), RangeEnd: []byte("l"), SortOrder: etcdserverpb.RangeRequest_ASCEND},
		{Key: []byte("z"), RangeEnd: []byte("a")},
	} {
		want, err := kv.Range(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if got := merged(t, kv, r); !proto.Equal(got, want) {
			t.Errorf("%v: %d keys, header %v, more %v, count %d; Range: %d %v %v %d", r, len(got.GetKvs()), got.GetHeader(), got.GetMore(),
				got.GetCount(), len(want.Kvs), want.Header, want.More, want.Count)
		}
	}
}

// merged reads a stream to its end, checks how it is cut, and merges its messages.
func merged(t *testing.T, kv etcdserverpb.KVClient, r *etcdserverpb.RangeRequest) *etcdserverpb.RangeResponse {
	t.Helper()
	stream, err := kv.RangeStream(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	all := new(etcdserverpb.RangeStreamResponse)
	for ended := false; ; {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if !ended {
				t.Errorf("%v: no header", r)
			}
			return all.GetRangeResponse()
		}
		if err != nil {
			t.Fatal(err)
		}
		p := m.GetRangeResponse()
		if ended {
			t.Errorf("%v: a message after the header", r)
		}
		ended = p.GetHeader() != nil
		if !ended && (p.GetCount() != 0 || p.GetMore() || len(p.GetKvs()) == 0) {
			t.Errorf("%v: a message before the last has a count or nothing", r)
		}
		if n := proto.Size(p); n > streamChunkMax+1<<10 && len(p.GetKvs()) > 1 {
			t.Errorf("%v: a message of %d bytes", r, n)
		}
		proto.Merge(all, m)
	}
}

func TestClientsMayCompress(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	value := bytes.Repeat([]byte("v"), 300<<10)
	if _, err := kv.Put(context.Background(), &etcdserverpb.PutRequest{Key: []byte("a"), Value: value}, grpc.UseCompressor("gzip")); err != nil {
		t.Fatal(err)
	}
	r, err := kv.Range(context.Background(), &etcdserverpb.RangeRequest{Key: []byte("a")}, grpc.UseCompressor("gzip"))
	if err != nil || len(r.Kvs) != 1 || !bytes.Equal(r.Kvs[0].Value, value) {
		t.Errorf("got %d keys, %v", len(r.GetKvs()), err)
	}
}

func TestRangeStreamErrors(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{}))
	for _, c := range []struct {
		r    *etcdserverpb.RangeRequest
		want error
	}{
		{&etcdserverpb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey},
		{&etcdserverpb.RangeRequest{Key: []byte("a"), Revision: 99}, rpctypes.ErrGRPCFutureRev},
		{&etcdserverpb.RangeRequest{Key: []byte("a"), Revision: 99, MinModRevision: 3}, errStreamFilters},
	} {
		stream, err := kv.RangeStream(context.Background(), c.r)
		if err == nil {
			_, err = stream.Recv()
		}
		wantStatus(t, err, c.want)
	}
}

func TestManyLargeRangesShareTheBudget(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	fill(t, s, 300, 60<<10)
	kv := etcdserverpb.NewKVClient(serve(t, s, Options{}, KVOptions{ResponseBudget: 2 << 20}))
	all := &etcdserverpb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	want, err := kv.Range(context.Background(), all)
	if err != nil || proto.Size(want) < 3<<20 {
		t.Fatal(proto.Size(want), err)
	}
	errs := make(chan error)
	const clients = 8
	for range clients {
		go func() {
			got, err := kv.Range(context.Background(), all)
			if err == nil && !proto.Equal(got, want) {
				err = errors.New("another answer")
			}
			errs <- err
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestRequestsThatAreTooLarge(t *testing.T) {
	t.Parallel()
	kv := etcdserverpb.NewKVClient(serve(t, newSolo(t), Options{}, KVOptions{}))
	_, err := kv.Put(context.Background(), &etcdserverpb.PutRequest{Key: []byte("a"), Value: bytes.Repeat([]byte("z"), soloMax)})
	wantStatus(t, err, rpctypes.ErrGRPCRequestTooLarge)
	_, err = kv.Put(context.Background(), &etcdserverpb.PutRequest{Key: []byte("a"), Value: bytes.Repeat([]byte("z"), soloMax+overheadBytes-6)})
	if status.Code(err) != codes.ResourceExhausted || status.Convert(err).Message() != fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", soloMax+overheadBytes+1, soloMax+overheadBytes) {
		t.Errorf("got %v", err)
	}
}
