package proxy

import (
	"context"
	"errors"
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
