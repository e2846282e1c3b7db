package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/watch"
)

// encodedEvent is an event as the hub hands it out.
func encodedEvent(t testing.TB, e *mvccpb.Event) []byte {
	t.Helper()
	return protowire.AppendBytes(protowire.AppendTag(nil, 11, protowire.BytesType), marshal(t, e))
}

func TestAWatchResponseIsEncodedAsProtoWould(t *testing.T) {
	t.Parallel()
	small := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte("small"), Value: []byte("v"), ModRevision: 7}}
	large := &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("large")},
		PrevKv: &mvccpb.KeyValue{Value: bytes.Repeat([]byte("x"), watchShareMin)}}
	many := make([]*mvccpb.Event, 300)
	for i := range many {
		many[i] = &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte{byte(i)}, Value: bytes.Repeat([]byte{byte(i)}, 2000)}}
	}
	cases := map[string]*etcdserverpb.WatchResponse{
		"a watcher is created":               {WatchId: 3, Created: true},
		"a refusal":                          {WatchId: -1, Created: true, Canceled: true, CancelReason: strings.Repeat("why ", 5000)},
		"the revision was compacted":         {WatchId: 1, Canceled: true, CompactRevision: 1 << 62},
		"one small event":                    {WatchId: 1, Events: []*mvccpb.Event{small}},
		"one large event in a fragment":      {WatchId: 1, Fragment: true, Events: []*mvccpb.Event{large}},
		"a large event between small ones":   {Events: []*mvccpb.Event{small, large, small, small}},
		"large events at both ends":          {Events: []*mvccpb.Event{large, small, large, large}},
		"more small events than a chunk has": {Events: many},
	}
	var encoder watchEncoder
	for name, want := range cases {
		t.Run(name, func(t *testing.T) {
			want := proto.Clone(want).(*etcdserverpb.WatchResponse)
			want.Header = &etcdserverpb.ResponseHeader{ClusterId: 1 << 63, MemberId: 2, Revision: 9, RaftTerm: 4}
			m := &watch.Message{WatchID: want.WatchId, Revision: 9, Created: want.Created, Canceled: want.Canceled,
				CompactRevision: want.CompactRevision, Reason: want.CancelReason, Fragment: want.Fragment}
			for _, e := range want.Events {
				raw := encodedEvent(t, e)
				m.Events = append(m.Events, raw)
				m.Size += len(raw)
			}
			r, err := encoder.encode(header{1 << 63, 2, 9, 4}, m)
			if err != nil {
				t.Fatal(err)
			}
			at := []byte("before")
			appended := r.AppendTo(at)[len(at):]
			chunks, err := newCodec(NewMeasures(false)).Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			coded := chunks.Materialize()
			if !bytes.Equal(appended, coded) || r.Length() != len(coded) {
				t.Errorf("%d bytes are appended, the length is %d, and the codec makes %d, or others", len(appended), r.Length(), len(coded))
			}
			got := new(etcdserverpb.WatchResponse)
			if err := proto.Unmarshal(coded, got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			for _, e := range m.Events {
				shared := false
				for _, c := range chunks {
					shared = shared || &c.ReadOnlyData()[0] == &e[0]
				}
				if shared != (len(e) >= watchShareMin) {
					t.Errorf("an event of %d bytes is shared: %v", len(e), shared)
				}
			}
			chunks.Free()
		})
	}
}

// TestWatchResponsesStayAsTheyAre encodes many, of which none is looked at before all are encoded.
func TestWatchResponsesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	const messages = 1000
	var encoder watchEncoder
	c := newCodec(NewMeasures(false))
	r := rand.New(rand.NewPCG(1, 2))
	wants, got := make([]*etcdserverpb.WatchResponse, messages), make([]mem.BufferSlice, messages)
	for i := range messages {
		e := &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: fmt.Appendf(nil, "%d", i), Value: make([]byte, r.IntN(3000))}}
		raw := encodedEvent(t, e)
		h := header{1, 2, int64(1 + i/7), uint64(1 + i/100)}
		wants[i] = &etcdserverpb.WatchResponse{WatchId: int64(i), Events: []*mvccpb.Event{e},
			Header: &etcdserverpb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: h.revision, RaftTerm: h.term}}
		m := &watch.Message{WatchID: int64(i), Revision: h.revision, Events: [][]byte{raw}, Size: len(raw)}
		response, err := encoder.encode(h, m)
		if err != nil {
			t.Fatal(err)
		}
		if got[i], err = c.Marshal(response); err != nil {
			t.Fatal(err)
		}
	}
	for i, chunks := range got {
		one := new(etcdserverpb.WatchResponse)
		if err := proto.Unmarshal(chunks.Materialize(), one); err != nil || !proto.Equal(one, wants[i]) {
			t.Fatalf("message %d: got %v (%v)\nwant %v", i, one, err, wants[i])
		}
		chunks.Free()
	}
}

func TestEventsOfARevisionThatGRPCCannotFrameAreNotEncoded(t *testing.T) {
	t.Parallel()
	var encoder watchEncoder
	if _, err := encoder.encode(header{}, &watch.Message{Size: responseMax - watchHeadMax}); err != nil { // as if it held so much
		t.Errorf("what can be framed: %v", err)
	}
	if _, err := encoder.encode(header{}, &watch.Message{Size: responseMax - watchHeadMax + 1}); !errors.Is(err, errRevisionTooLarge) {
		t.Errorf("got %v", err)
	}
}

// serveWatch serves watches of s and returns a client. What it changes of the options is up to the test.
func serveWatch(t testing.TB, s *solo, o WatchOptions, server Options) (*Watch, etcdserverpb.WatchClient) {
	t.Helper()
	if o.Clock == nil {
		o.Clock = clock.Real()
	}
	t.Cleanup(func() { // after the server has ended
		if st := s.Hub().Stats(); st.Streams != 0 || st.Watchers != 0 {
			t.Errorf("left behind: %+v", st)
		}
	})
	w := NewWatch(s, o)
	conn := serveServices(t, s, server, func(services *Services) { services.Watch = w })
	return w, etcdserverpb.NewWatchClient(conn)
}

func openWatch(t testing.TB, ctx context.Context, c etcdserverpb.WatchClient) etcdserverpb.Watch_WatchClient {
	t.Helper()
	stream, err := c.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// ask sends a create request and returns the answer to it.
func ask(t testing.TB, stream etcdserverpb.Watch_WatchClient, r *etcdserverpb.WatchCreateRequest) *etcdserverpb.WatchResponse {
	t.Helper()
	if err := stream.Send(&etcdserverpb.WatchRequest{
		RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		t.Fatal(err)
	}
	return answer(t, stream)
}

func answer(t testing.TB, stream etcdserverpb.Watch_WatchClient) *etcdserverpb.WatchResponse {
	t.Helper()
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantEnd receives the end of a stream.
func wantEnd(t testing.TB, stream etcdserverpb.Watch_WatchClient, want error) {
	t.Helper()
	for {
		_, err := stream.Recv()
		if err == nil {
			continue
		}
		if status.Convert(err).String() != status.Convert(want).String() {
			t.Errorf("the stream ended with %v, want %v", err, want)
		}
		return
	}
}

func TestAClientThatHasSaidAllStillGetsEvents(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	_, c := serveWatch(t, s, WatchOptions{}, Options{})
	stream := openWatch(t, t.Context(), c)
	for _, r := range []*etcdserverpb.WatchRequest{{},
		{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: 99}}},
		{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}},
	} {
		if err := stream.Send(r); err != nil { // none of them is answered
			t.Fatal(err)
		}
	}
	if r := ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 5}); !r.Created || r.WatchId != 5 {
		t.Fatalf("got %v", r)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "v")
	if r := answer(t, stream); len(r.Events) != 1 || r.WatchId != 5 || r.Header.Revision != 2 {
		t.Errorf("got %v", r)
	}
}

func TestRequestsAreTranslatedAsEtcdDoes(t *testing.T) {
	t.Parallel()
	const noPut, noDelete = etcdserverpb.WatchCreateRequest_NOPUT, etcdserverpb.WatchCreateRequest_NODELETE
	for name, c := range map[string]struct {
		request *etcdserverpb.WatchCreateRequest
		key     string
		noPut   bool
		noDel   bool
	}{
		"no key is the key of a zero byte": {&etcdserverpb.WatchCreateRequest{}, "\x00", false, false},
		"a key":                            {&etcdserverpb.WatchCreateRequest{Key: []byte("k")}, "k", false, false},
		"no puts":                          {&etcdserverpb.WatchCreateRequest{Filters: []etcdserverpb.WatchCreateRequest_FilterType{noPut}}, "\x00", true, false},
		"no deletes, and a filter that nobody knows": {&etcdserverpb.WatchCreateRequest{
			Filters: []etcdserverpb.WatchCreateRequest_FilterType{noDelete, 9}}, "\x00", false, true},
	} {
		spec := watchSpec(c.request)
		if string(spec.Key) != c.key || spec.NoPut != c.noPut || spec.NoDelete != c.noDel {
			t.Errorf("%s: %+v", name, spec)
		}
	}
}

func TestADeniedWatcherIsRefusedAndTheStreamGoesOn(t *testing.T) {
	t.Parallel()
	denied := map[string]error{
		"secret": rpctypes.ErrGRPCPermissionDenied, "token": rpctypes.ErrGRPCInvalidAuthToken, "odd": errors.New("odd"),
	}
	_, c := serveWatch(t, newSolo(t), WatchOptions{
		Authorize: func(_ context.Context, key, end []byte) error { return denied[string(key)] },
	}, Options{})
	stream := openWatch(t, t.Context(), c)
	for key, want := range map[string]string{
		"secret": "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
		"odd":    "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
		"token":  "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
	} {
		r := ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte(key)})
		if !r.Created || !r.Canceled || r.WatchId != -1 || r.CancelReason != want {
			t.Errorf("%s: got %v", key, r)
		}
	}
	if r := ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("free")}); !r.Created || r.Canceled {
		t.Errorf("got %v", r)
	}
}

func TestProgressComesWithTheClock(t *testing.T) {
	t.Parallel()
	s := newSolo(t)
	m := clock.NewManual(time.Unix(0, 0))
	_, c := serveWatch(t, s, WatchOptions{ProgressInterval: time.Minute, Clock: m}, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	stream := openWatch(t, ctx, c)
	if r := ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("k"), ProgressNotify: true, WatchId: 1}); !r.Created {
		t.Fatalf("got %v", r)
	}
	for want := int64(1); want < 4; want++ {
		m.WaitPending(1)
		m.Advance(time.Minute + time.Minute/progressJitter)
		if r := answer(t, stream); r.WatchId != 1 || r.Header.Revision != want || len(r.Events) != 0 {
			t.Errorf("got %v, want progress at %d", r, want)
		}
		put(t, s, "other", "v")
		if err := s.Hub().WaitDistributed(ctx, want+1); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	wantEnd(t, stream, status.FromContextError(context.Canceled).Err())
}

func TestStreamsEndWithTheReason(t *testing.T) {
	t.Parallel()
	t.Run("the service stops", func(t *testing.T) {
		t.Parallel()
		w, c := serveWatch(t, newSolo(t), WatchOptions{}, Options{})
		stream := openWatch(t, t.Context(), c)
		ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("k")})
		w.Stop()
		wantEnd(t, stream, rpctypes.ErrGRPCStopped)
		wantEnd(t, openWatch(t, t.Context(), c), rpctypes.ErrGRPCStopped)
	})
	t.Run("a request that cannot be read", func(t *testing.T) {
		t.Parallel()
		_, c := serveWatch(t, newSolo(t), WatchOptions{}, Options{MaxRequestBytes: 1 << 10})
		stream := openWatch(t, t.Context(), c)
		ask(t, stream, &etcdserverpb.WatchCreateRequest{Key: []byte("k")})
		if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: make([]byte, 1<<20)}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the leader is lost for those who demand one", func(t *testing.T) {
		t.Parallel()
		m := clock.NewManual(time.Unix(0, 0))
		var has atomic.Bool
		has.Store(true)
		changed := make(chan chan struct{}, 1)
		changed <- make(chan struct{})
		turn := func(leader bool) {
			has.Store(leader)
			old := <-changed
			changed <- make(chan struct{})
			close(old)
		}
		_, c := serveWatch(t, newSolo(t), WatchOptions{}, Options{
			HasLeader: has.Load, Clock: m, LeaderPatience: 3 * time.Second,
			LeaderChanged: func() <-chan struct{} {
				now := <-changed
				changed <- now
				return now
			},
		})
		demands := openWatch(t, metadata.AppendToOutgoingContext(t.Context(),
			rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader), c)
		content := openWatch(t, t.Context(), c)
		ask(t, demands, &etcdserverpb.WatchCreateRequest{Key: []byte("k")})
		ask(t, content, &etcdserverpb.WatchCreateRequest{Key: []byte("k")})
		turn(false)
		m.WaitPending(1)
		m.Advance(2 * time.Second)
		if r := ask(t, demands, &etcdserverpb.WatchCreateRequest{Key: []byte("k")}); !r.Created {
			t.Fatalf("got %v", r)
		}
		m.Advance(time.Hour)
		wantEnd(t, demands, rpctypes.ErrGRPCNoLeader)
		if r := ask(t, content, &etcdserverpb.WatchCreateRequest{Key: []byte("k")}); !r.Created {
			t.Errorf("got %v", r)
		}
	})
}
