package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/mvcc"
)

// gradualLab is a member with keys of several sizes and a KV service that makes small answers gradually already.
func gradualLab(t *testing.T, o Options) (*solo, *KV, etcdserverpb.KVClient) {
	t.Helper()
	s := newSolo(t)
	for i := range 300 {
		put(t, s, fmt.Sprintf("k%03d", i), strings.Repeat("v", i*i%5000))
		if i%7 == 0 {
			put(t, s, fmt.Sprintf("k%03d", i), strings.Repeat("w", i))
		}
	}
	put(t, s, "k150a", strings.Repeat("x", chunkLarge+1))
	kv := NewKV(s, KVOptions{})
	kv.gradualFrom = 10 << 10
	conn := serveServices(t, s, o, func(services *Services) { services.KV = kv })
	return s, kv, etcdserverpb.NewKVClient(conn)
}

// idle waits until no answer has a rest.
func (s *KV) idle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); s.gradually.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d answers still have a rest", s.gradually.Load())
		}
		runtime.Gosched()
	}
}

func TestAGradualAnswerIsThatWhichIsMadeAtOnce(t *testing.T) {
	t.Parallel()
	s, kv, client := gradualLab(t, Options{})
	all := func(change func(*etcdserverpb.RangeRequest)) *etcdserverpb.RangeRequest {
		r := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
		change(r)
		return r
	}
	for name, c := range map[string]struct {
		q       *etcdserverpb.RangeRequest
		gradual bool
	}{
		"all keys":                 {all(func(*etcdserverpb.RangeRequest) {}), true},
		"from a key on":            {all(func(r *etcdserverpb.RangeRequest) { r.RangeEnd = []byte{0} }), true},
		"sorted by keys":           {all(func(r *etcdserverpb.RangeRequest) { r.SortOrder = etcdserverpb.RangeRequest_ASCEND }), true},
		"with a limit":             {all(func(r *etcdserverpb.RangeRequest) { r.Limit = 123 }), true},
		"with a limit of all":      {all(func(r *etcdserverpb.RangeRequest) { r.Limit = 301 }), true},
		"at an older revision":     {all(func(r *etcdserverpb.RangeRequest) { r.Revision = 200 }), true},
		"of which many pass":       {all(func(r *etcdserverpb.RangeRequest) { r.MinModRevision, r.Limit = 50, 200 }), true},
		"without values":           {all(func(r *etcdserverpb.RangeRequest) { r.KeysOnly = true }), false}, // too little
		"with a small limit":       {all(func(r *etcdserverpb.RangeRequest) { r.Limit = 3 }), false},
		"the other way round":      {all(func(r *etcdserverpb.RangeRequest) { r.SortOrder = etcdserverpb.RangeRequest_DESCEND }), false},
		"sorted by something else": {all(func(r *etcdserverpb.RangeRequest) { r.SortTarget = etcdserverpb.RangeRequest_VALUE }), false},
		"a count":                  {all(func(r *etcdserverpb.RangeRequest) { r.CountOnly = true }), false},
	} {
		t.Run(name, func(t *testing.T) { // one after another: they are counted
			direct, err := kv.Range(t.Context(), request(t, MethodRange, c.q))
			if err != nil {
				t.Fatal(err)
			}
			if direct.rest != nil {
				t.Fatal("nobody would make the rest")
			}
			chunks := direct.take()
			want := new(etcdserverpb.RangeResponse)
			if err := proto.Unmarshal(chunks.Materialize(), want); err != nil {
				t.Fatal(err)
			}
			chunks.Free()
			sent := kv.measures.BytesSent.Value()
			got, err := client.Range(t.Context(), c.q)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("%d keys of %d, want %d of %d", len(got.Kvs), got.Count, len(want.Kvs), want.Count)
			}
			kv.idle(t)
			if counted := kv.measures.BytesSent.Value() - sent; c.gradual != (counted == uint64(proto.Size(want))) {
				t.Errorf("%d bytes were made gradually, of %d", counted, proto.Size(want))
			}
		})
	}
	if barriers, _ := s.counts(); barriers == 0 {
		t.Error("no read has waited")
	}
}

// part is a large answer that may have a rest.
func part(t *testing.T, kv *KV) *Response {
	t.Helper()
	v, err := kv.member.View(0)
	if err != nil {
		t.Fatal(err)
	}
	q := request(t, MethodRange, &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	r, err := kv.rangeOf(t.Context(), v, &q.get, true)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheRestOfAnAnswerIsOfItsTime(t *testing.T) {
	t.Parallel()
	s, kv, _ := gradualLab(t, Options{})
	r := part(t, kv)
	before, length := r.Len(), 0
	for i := range 300 {
		put(t, s, fmt.Sprintf("k%03d", i), "something else")
		put(t, s, fmt.Sprintf("k%03db", i), "a key more")
	}
	err := r.Make(func(p mem.BufferSlice) error {
		length += p.Len()
		p.Free()
		return nil
	})
	if err != nil || length != before {
		t.Errorf("%d bytes were made, %d announced: %v", length, before, err)
	}
	kv.idle(t)
}

func TestNothingIsLeftOfARestThatIsNotMade(t *testing.T) {
	t.Parallel()
	_, kv, _ := gradualLab(t, Options{})
	part(t, kv).drop()
	gone := errors.New("nobody is there")
	for n := range 4 {
		left := n
		r := part(t, kv)
		err := r.Make(func(p mem.BufferSlice) error {
			p.Free()
			if left--; left < 0 {
				return gone
			}
			return nil
		})
		if !errors.Is(err, gone) {
			t.Errorf("after %d pieces: %v", n, err)
		}
	}
	var held []*Response
	for range gradualMax {
		held = append(held, part(t, kv))
	}
	if r := part(t, kv); r.rest != nil {
		t.Error("there is no limit of rests")
	} else {
		r.drop()
	}
	for _, r := range held {
		r.drop()
	}
	kv.idle(t)
	if b := kv.budget; b.building != 0 || b.writing != 0 {
		t.Errorf("left of the budget: %d %d", b.building, b.writing)
	}
}

func TestARestThatNobodyWaitsForIsNotMeasured(t *testing.T) {
	t.Parallel()
	_, kv, _ := gradualLab(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v, err := kv.member.View(0)
	if err != nil {
		t.Fatal(err)
	}
	q := request(t, MethodRange, &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if r, err := kv.rangeOf(ctx, v, &q.get, true); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", r, err)
	}
	kv.idle(t)
}

// TestARangeThatNobodyWaitsForEnds also where a filter leaves out all that it comes by.
func TestARangeThatNobodyWaitsForEnds(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	for i := range 1100 {
		put(t, s, fmt.Sprintf("k%04d", i), "v")
	}
	kv := NewKV(s, KVOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v, err := kv.member.View(0)
	if err != nil {
		t.Fatal(err)
	}
	q := request(t, MethodRange, &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l"), MinModRevision: 1 << 40})
	if _, err := kv.rangeOf(ctx, v, &q.get, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestAReaderThatTakesNothingHoldsNoView: a client that reads nothing keeps the state of a past time for as long as it is waited for.
func TestAReaderThatTakesNothingHoldsNoView(t *testing.T) {
	t.Parallel()
	s, kv, _ := gradualLab(t, Options{})
	kv.readerPatience = 10 * time.Millisecond
	measures, calls := NewMeasures(false), new(Calls)
	measures.calls[etcdserverpb.KV_RangeStream_FullMethodName] = calls
	client := etcdserverpb.NewKVClient(serveServices(t, s, Options{Measures: measures}, func(services *Services) { services.KV = kv },
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(64<<10)))
	stream, err := client.RangeStream(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); calls.Handled[codes.ResourceExhausted].Value() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("it is still waited for")
		}
		runtime.Gosched()
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the stream ended with %v", err)
	}
}

// TestARestIsNotSentOnceTheStateIsWrong: the state is found to be wrong after the answer has begun.
func TestARestIsNotSentOnceTheStateIsWrong(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, kv, client := gradualLab(t, Options{Trusted: func() error {
		if asked.Add(1) > 2 { // before the handler and after it
			return errors.New("it is wrong")
		}
		return nil
	}})
	_, err := client.Range(t.Context(), &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if status.Code(err) != codes.Internal || asked.Load() < 3 {
		t.Errorf("got %v; asked %d times", err, asked.Load())
	}
	kv.idle(t)
}

func TestLargeRangesHaveMoreOfTheCache(t *testing.T) {
	t.Parallel()
	for name, large := range map[string]func(etcdserverpb.KVClient, *etcdserverpb.RangeRequest) error{
		"a gradual answer": func(c etcdserverpb.KVClient, q *etcdserverpb.RangeRequest) error {
			_, err := c.Range(t.Context(), q)
			return err
		},
		"a stream": func(c etcdserverpb.KVClient, q *etcdserverpb.RangeRequest) error {
			stream, err := c.RangeStream(t.Context(), q)
			for err == nil {
				_, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		},
		"pages": func(c etcdserverpb.KVClient, q *etcdserverpb.RangeRequest) error {
			page := &etcdserverpb.RangeRequest{Key: q.Key, RangeEnd: q.RangeEnd, Limit: 2}
			for range 50 { // none of which is large
				r, err := c.Range(t.Context(), page)
				if err != nil || !r.More {
					return err
				}
				page.Key = append(r.Kvs[1].Key, 0)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, kv, client := gradualLab(t, Options{})
			most := func() int64 {
				m, _ := s.StateStats()
				return m.CacheMaxBytes
			}
			before := most()
			q := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("k01")}
			if err := large(client, q); err != nil || most() != before {
				t.Errorf("after a small one the cache may hold %d bytes, %d before: %v", most(), before, err)
			}
			q.RangeEnd = []byte("l")
			if err := large(client, q); err != nil || most() <= before {
				t.Errorf("after a large one the cache may hold %d bytes, %d before: %v", most(), before, err)
			}
			kv.idle(t)
		})
	}
}

// TestGradualAnswersBesideWritersAreWhole: how long an answer is follows from how long an earlier one was, and from what was changed since.
func TestGradualAnswersBesideWritersAreWhole(t *testing.T) {
	t.Parallel()
	const answers = 150
	_, kv, client := gradualLab(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan struct{}, 3) // a change follows each answer, about
	var writers sync.WaitGroup
	for range 2 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := changeAny(ctx, client, i); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				select {
				case <-read:
				case <-ctx.Done():
				}
			}
		})
	}
	compared := 0
	for range answers {
		q := &etcdserverpb.RangeRequest{Key: []byte("k"), RangeEnd: []byte("l")}
		got, err := client.Range(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case read <- struct{}{}:
		default: // they are behind, or have failed
		}
		q.Revision = got.Header.Revision
		direct, err := kv.Range(ctx, request(t, MethodRange, q))
		if errors.Is(err, mvcc.ErrCompacted) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		chunks, want := direct.take(), new(etcdserverpb.RangeResponse)
		err = proto.Unmarshal(chunks.Materialize(), want)
		chunks.Free()
		if got.Header, want.Header = nil, nil; err != nil || !proto.Equal(got, want) {
			t.Fatalf("%d keys of %d, want %d of %d (%v)", len(got.Kvs), got.Count, len(want.Kvs), want.Count, err)
		}
		compared++
	}
	cancel()
	writers.Wait()
	if compared < answers/2 {
		t.Errorf("only %d answers could be compared", compared)
	}
	kv.idle(t)
}

// changeAny puts or deletes some of the keys of gradualLab, or compacts what came before.
func changeAny(ctx context.Context, c etcdserverpb.KVClient, i int) error {
	key := fmt.Appendf(nil, "k%03d", i*83%320)
	switch i % 9 {
	case 2:
		_, err := c.DeleteRange(ctx, &etcdserverpb.DeleteRangeRequest{Key: key})
		return err
	case 5:
		var ops []*etcdserverpb.RequestOp
		for n := range 3 {
			put := &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, "k%03dt%d", i%300, n), Value: make([]byte, i*71%6000)}
			ops = append(ops, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: put}})
		}
		_, err := c.Txn(ctx, &etcdserverpb.TxnRequest{Success: ops})
		return err
	case 8:
		now, err := c.Range(ctx, &etcdserverpb.RangeRequest{Key: key})
		if err == nil {
			_, err = c.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: now.Header.Revision - int64(i%4)})
		}
		if status.Code(err) == codes.OutOfRange {
			return nil // the other writer was there before
		}
		return err
	}
	_, err := c.Put(ctx, &etcdserverpb.PutRequest{Key: key, Value: make([]byte, i*97%6000)})
	return err
}

// TestAWrongLengthEndsTheAnswer: with an error, and before more is sent than was announced. The next one is whole.
func TestAWrongLengthEndsTheAnswer(t *testing.T) {
	t.Parallel()
	for wrong, spoil := range map[string]func(l *rest){
		"a byte less":   func(l *rest) { l.length-- },
		"a byte more":   func(l *rest) { l.length++ },
		"100 KiB less":  func(l *rest) { l.length -= 100 << 10 },
		"another count": func(l *rest) { l.count++ },
	} {
		_, kv, _ := gradualLab(t, Options{})
		for _, want := range []error{errChanged, nil} {
			r := part(t, kv)
			if want != nil {
				spoil(r.rest)
			}
			announced := r.Len()
			sent := 0
			err := r.Make(func(p mem.BufferSlice) error {
				sent += p.Len()
				p.Free()
				return nil
			})
			if !errors.Is(err, want) || sent > announced {
				t.Errorf("%s: %d were sent of %d, %v, want %v", wrong, sent, announced, err, want)
			}
		}
		kv.idle(t)
	}
}
