package proxy

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// stream is a watch stream of its own connection.
type stream struct {
	t *testing.T
	etcdserverpb.Watch_WatchClient
}

func openStream(t *testing.T, ctx context.Context, address string) *stream {
	t.Helper()
	raw := etcdserverpb.NewWatchClient(client(t, address).ActiveConnection())
	return &stream{t, must[etcdserverpb.Watch_WatchClient](t)(raw.Watch(ctx))}
}

func (s *stream) send(r *etcdserverpb.WatchRequest) {
	s.t.Helper()
	if err := s.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) create(r *etcdserverpb.WatchCreateRequest) {
	s.t.Helper()
	s.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: r}})
}

func (s *stream) cancel(id int64) {
	s.t.Helper()
	s.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{
		CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: id}}})
}

func (s *stream) ask() {
	s.t.Helper()
	s.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{}}})
}

func (s *stream) next() string {
	s.t.Helper()
	r := must[*etcdserverpb.WatchResponse](s.t)(s.Recv())
	return fmt.Sprintf("%d@%d created %t canceled %t at %d %q, %d events", r.WatchId, r.GetHeader().GetRevision(), r.Created, r.Canceled,
		r.CompactRevision, r.CancelReason, len(r.Events))
}

// TestProgressOfAWatchThatIsNewIsToldAtOnce asks once, while nothing is written.
func TestProgressOfAWatchThatIsNewIsToldAtOnce(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	rev := must[*clientv3.PutResponse](t)(p.client(t).Put(ctx, "k", "v")).Header.Revision
	streams := []*stream{openStream(t, ctx, p.addresses[0]), openStream(t, ctx, p.addresses[0]), openStream(t, ctx, p.addresses[0])}
	progress := fmt.Sprintf(`-1@%d created false canceled false at 0 "", 0 events`, rev)
	for round := range 10 {
		want := fmt.Sprintf(`%d@%d created true canceled false at 0 "", 0 events`, round, rev)
		for i, s := range streams {
			s.create(&etcdserverpb.WatchCreateRequest{Key: fmt.Append(nil, "k", round)})
			if got := s.next(); got != want {
				t.Fatalf("round %d, stream %d: %s, want %s", round, i, got, want)
			}
			s.ask() // it may be becoming a shared one
		}
		for i, s := range streams {
			if got := s.next(); got != progress {
				t.Fatalf("round %d, stream %d: %s, want %s", round, i, got, progress)
			}
		}
	}
	eventually(t, "all are shared", func() bool {
		return metric(t, "http://"+p.addresses[0]+"/proxy/metrics", "etcd_grpc_proxy_watchers_coalescing_total") == "30"
	})
	for i, s := range streams {
		s.ask()
		if got := s.next(); got != progress {
			t.Errorf("stream %d: %s, want %s", i, got, progress)
		}
	}
}

// TestAWatchThatACompactionHasEndedKeepsItsNumber, until the client cancels it, and has no progress told meanwhile.
func TestAWatchThatACompactionHasEndedKeepsItsNumber(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	c := p.client(t)
	var rev int64
	for range 5 {
		rev = must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v")).Header.Revision
	}
	must[*clientv3.CompactResponse](t)(c.Compact(ctx, rev-2))
	var answers [2][]string
	for i, address := range []string{up.address, p.addresses[0]} {
		s := openStream(t, ctx, address)
		expect := func(n int) {
			for range n {
				answers[i] = append(answers[i], s.next())
			}
		}
		s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 1})
		expect(1)
		s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 2, StartRevision: 2})
		expect(2)
		s.ask() // is not answered: what follows is about something else
		s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 2})
		expect(1)
		s.cancel(2)
		expect(1)
		s.ask()
		expect(1)
		s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 2})
		expect(1)
		s.cancel(1)
		expect(1)
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Errorf("the member answers\n%q\nthe proxy\n%q", answers[0], answers[1])
	}
}

// TestAWatchIsCancelledWhileItBecomesShared, whichever comes first.
func TestAWatchIsCancelledWhileItBecomesShared(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	s := openStream(t, soon(t), p.addresses[0])
	for round := range 50 {
		for id := range int64(3) {
			s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: id + 1})
			if r := must[*etcdserverpb.WatchResponse](t)(s.Recv()); !r.Created || r.Canceled || r.WatchId != id+1 {
				t.Fatalf("round %d: %v", round, r)
			}
		}
		ended := map[int64]bool{}
		for id := range int64(3) {
			s.cancel(id + 1)
		}
		for range 3 {
			r := must[*etcdserverpb.WatchResponse](t)(s.Recv())
			if !r.Canceled || r.Created || ended[r.WatchId] {
				t.Fatalf("round %d: %v", round, r)
			}
			ended[r.WatchId] = true
		}
	}
}
