package proxy

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRenewalsOfManyClientsShareAStream(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	c := p.client(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 600)).ID
	const many = 10
	var alive []<-chan *clientv3.LeaseKeepAliveResponse
	for range many {
		alive = append(alive, must[<-chan *clientv3.LeaseKeepAliveResponse](t)(p.client(t).KeepAlive(ctx, lease)))
	}
	for _, a := range alive {
		if r := <-a; r == nil || r.TTL != 600 || r.ID != lease {
			t.Errorf("got %v", r)
		}
	}
	name := `grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}`
	if got := metric(t, "http://"+up.address+"/metrics", name); got != "1" {
		t.Errorf("the member has %q streams of renewals", got)
	}
	stream := must[etcdserverpb.Lease_LeaseKeepAliveClient](t)(etcdserverpb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx))
	ids := []int64{int64(lease), 12345, int64(lease), 12345, int64(lease)}
	for _, id := range ids {
		if err := stream.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		want := int64(600)
		if id == 12345 { // there is no such lease
			want = 0
		}
		if r := must[*etcdserverpb.LeaseKeepAliveResponse](t)(stream.Recv()); r.ID != id || r.TTL != want {
			t.Errorf("got %v, want lease %d with %d", r, id, want)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the end of the stream: %v", err)
	}
	up.end(t)
	up.start(t)
	eventually(t, "renewals go on after the member came back", func() bool {
		r, err := c.KeepAliveOnce(ctx, lease)
		return err == nil && r.TTL == 600
	})
}

// TestASlowClientDelaysNobody: what waits for it is bounded, and it gets all in the end.
func TestASlowClientDelaysNobody(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	c := p.client(t)
	open := func() etcdserverpb.Watch_WatchClient {
		w := must[etcdserverpb.Watch_WatchClient](t)(etcdserverpb.NewWatchClient(p.client(t).ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(64<<20)))
		if err := w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
			CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
			t.Fatal(err)
		}
		if r := must[*etcdserverpb.WatchResponse](t)(w.Recv()); !r.Created {
			t.Fatalf("got %v", r)
		}
		return w
	}
	fast, slow := open(), open()
	eventually(t, "both share a watcher", func() bool { return watchers(t, up) == 1 })
	const writes = 40
	value := strings.Repeat("x", 1<<20)
	read := func(w etcdserverpb.Watch_WatchClient, from, to int) {
		for next := from; next < to; {
			for _, e := range must[*etcdserverpb.WatchResponse](t)(w.Recv()).Events {
				if e.Kv.Version != int64(next)+1 {
					t.Fatalf("version %d, want %d", e.Kv.Version, next+1)
				}
				next++
			}
		}
	}
	for i := range writes {
		must[*clientv3.PutResponse](t)(c.Put(ctx, "k", value))
		read(fast, i, i+1)
	}
	read(slow, 0, writes)
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "the end"))
	read(fast, writes, writes+1)
	read(slow, writes, writes+1)
	eventually(t, "both share a watcher again", func() bool { return watchers(t, up) == 1 })
}

// TestNoRequestOutlivesItsDeadline: upstream takes connections and says nothing.
func TestNoRequestOutlivesItsDeadline(t *testing.T) {
	t.Parallel()
	silent := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer silent.Close()
	p := runProxy(t, silent.Addr().String())
	c := p.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := etcdserverpb.NewKVClient(c.ActiveConnection()).Put(ctx, &etcdserverpb.PutRequest{Key: []byte("k")})
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("a put: %v", err)
	}
	// Without a deadline a watch ends when no connection can be made.
	w := must[etcdserverpb.Watch_WatchClient](t)(etcdserverpb.NewWatchClient(c.ActiveConnection()).Watch(soon(t)))
	if err := w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a watch: %v, %v", r, err)
	}
}
