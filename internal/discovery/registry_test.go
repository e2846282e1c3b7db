package discovery

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
)

// forgetful is a registry that keeps a size and no members, and has compacted whatever is to be watched.
type forgetful struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
	watched chan struct{}
}

func (forgetful) Range(_ context.Context, r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	out := &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{Revision: 5}}
	if strings.HasSuffix(string(r.GetKey()), "_config/size") {
		out.Kvs = []*mvccpb.KeyValue{{Key: r.GetKey(), Value: []byte("2")}}
	}
	return out, nil
}

func (forgetful) Put(context.Context, *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	return &etcdserverpb.PutResponse{Header: &etcdserverpb.ResponseHeader{Revision: 5}}, nil
}

func (f forgetful) Watch(s etcdserverpb.Watch_WatchServer) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	f.watched <- struct{}{}
	err := s.Send(&etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 9}, Created: true})
	return errors.Join(err, s.Send(&etcdserverpb.WatchResponse{Header: &etcdserverpb.ResponseHeader{Revision: 9}, Canceled: true, CompactRevision: 9}))
}

func TestARegistryThatForgetsItsMembersIsAskedAgain(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := forgetful{watched: make(chan struct{}, 100)}
	server := grpc.NewServer()
	etcdserverpb.RegisterKVServer(server, f)
	etcdserverpb.RegisterWatchServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	d := config.Default("ashlar").Discovery
	d.Token, d.Endpoints, d.Insecure = "t", []string{"http://" + l.Addr().String()}, true
	r, err := OpenRegistry(&d, clock.Real(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.watched
		<-f.watched
		cancel()
	}()
	if found, err := r.Join(ctx, "1", "a=http://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("it found %q, %v", found, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
