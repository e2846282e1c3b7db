package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// said is a client's stream of watches with one request that has arrived, when the client has gone.
type said struct {
	grpc.ServerStream
	request *etcdserverpb.WatchRequest
}

func (*said) Send(*etcdserverpb.WatchResponse) error { return nil }

func (s *said) Recv() (*etcdserverpb.WatchRequest, error) {
	if r := s.request; r != nil {
		s.request = nil
		return r, nil
	}
	return nil, context.Canceled
}

// TestNothingIsServedForAClientThatHasGone: its last request may be read after its stream has ended, and nobody would end what that begins.
func TestNothingIsServedForAClientThatHasGone(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*etcdserverpb.WatchRequest{
		"a watch": {RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}},
		"a question": {RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lab := newWatchLab(t)
			s := lab.session()
			s.end()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.requests(ctx, &said{request: r}); !errors.Is(err, context.Canceled) {
				t.Errorf("its requests end with %v", err)
			}
			lab.locked(func() {
				if s.line != nil {
					t.Error("a stream is open for it upstream")
				}
			})
		})
	}
}

// TestANumberIsFreeOnceItsWatchIsCancelled, as at a member, also before upstream has said that the watch has ended.
func TestANumberIsFreeOnceItsWatchIsCancelled(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	s := lab.session()
	create := func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k"), WatchId: 7}) }
	lab.locked(create)
	l := s.line
	lab.hear(l, &etcdserverpb.WatchResponse{Created: true}, 5)
	first := l.last
	lab.locked(func() {
		s.cancel(7)
		create()
	})
	lab.hear(l, &etcdserverpb.WatchResponse{WatchId: first, Canceled: true}, 5)
	lab.hear(l, &etcdserverpb.WatchResponse{Created: true}, 5)
	lab.locked(create) // which is one too much
	var got []string
	for r := s.queue.pop(); r != nil; r = s.queue.pop() {
		got = append(got, fmt.Sprint(r.WatchId, r.Created, r.Canceled))
	}
	if want := []string{"7 true false", "7 false true", "7 true false", "-1 true true"}; !slices.Equal(got, want) {
		t.Errorf("the client is told %q, want %q", got, want)
	}
}

// TestNobodyWaitsForALineThatIsClosed: its requests are never taken.
func TestNobodyWaitsForALineThatIsClosed(t *testing.T) {
	t.Parallel()
	lab := newWatchLab(t)
	s := lab.session()
	lab.locked(func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k")}) })
	l := s.line
	lab.locked(l.close)
	select {
	case <-l.taken:
	default:
		t.Error("who waits for room is not woken")
	}
}
