package proxy

import (
	"context"
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// secure makes the users root, reader (of k) and stranger, and turns authentication on.
func secure(t *testing.T, ctx context.Context, c *clientv3.Client) {
	t.Helper()
	for _, user := range []string{"root", "reader", "stranger"} {
		must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(ctx, user, user))
		must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(ctx, user))
		must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(ctx, user, user))
	}
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(c.RoleGrantPermission(ctx, "reader", "k", "", clientv3.PermissionType(clientv3.PermRead)))
	must[*clientv3.AuthEnableResponse](t)(c.AuthEnable(ctx))
}

func TestNobodyGetsWhatOnlyOthersMayRead(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	plain := p.client(t)
	must[*clientv3.PutResponse](t)(plain.Put(ctx, "k", "secret"))
	must[*clientv3.GetResponse](t)(plain.Get(ctx, "k", clientv3.WithSerializable())) // kept, but not for long
	secure(t, ctx, plain)
	if _, err := plain.Get(ctx, "k", clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrUserEmpty) {
		t.Errorf("without a token after authentication was turned on: %v", err)
	}
	root, reader, stranger := p.client(t, as("root")), p.client(t, as("reader")), p.client(t, as("stranger"))
	for range 3 {
		if got := must[*clientv3.GetResponse](t)(reader.Get(ctx, "k", clientv3.WithSerializable())); len(got.Kvs) != 1 {
			t.Errorf("the reader gets %v", got)
		}
		for name, c := range map[string]*clientv3.Client{"a stranger": stranger, "nobody": plain} {
			if got, err := c.Get(ctx, "k", clientv3.WithSerializable()); err == nil {
				t.Errorf("%s gets %v", name, got)
			}
		}
	}
	w1, w2 := reader.Watch(ctx, "k", clientv3.WithCreatedNotify()), reader.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithCreatedNotify())
	<-w1
	<-w2
	for name, c := range map[string]*clientv3.Client{"a stranger": stranger, "nobody": plain} {
		if r := <-c.Watch(ctx, "k"); r.Err() == nil || len(r.Events) != 0 {
			t.Errorf("%s watches: %v, %v", name, r, r.Err())
		}
	}
	must[*clientv3.PutResponse](t)(root.Put(ctx, "k", "new"))
	for _, w := range []clientv3.WatchChan{w1, w2} {
		if r := <-w; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "new" {
			t.Errorf("the reader watches %v, %v", r, r.Err())
		}
	}
	// What was taken from the reader is gone, also from what is kept.
	must[*clientv3.GetResponse](t)(reader.Get(ctx, "k", clientv3.WithSerializable()))
	must[*clientv3.AuthRoleRevokePermissionResponse](t)(root.RoleRevokePermission(ctx, "reader", "k", ""))
	if got, err := reader.Get(ctx, "k", clientv3.WithSerializable()); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("the reader without the right gets %v, %v", got, err)
	}
}

// TestOneBadTokenEndsNobodyElsesStreams: a proxy that sends streams of many clients as one must not let one of them end all.
func TestOneBadTokenEndsNobodyElsesStreams(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	plain := p.client(t)
	secure(t, ctx, plain)
	root := p.client(t, as("root"))
	var all []clientv3.WatchChan
	for _, c := range []*clientv3.Client{p.client(t, as("reader")), p.client(t, as("reader")), root, root} {
		w := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
		<-w
		all = append(all, w)
	}
	lease := must[*clientv3.LeaseGrantResponse](t)(root.Grant(ctx, 600)).ID
	must[*clientv3.PutResponse](t)(root.Put(ctx, "mine", "v", clientv3.WithLease(lease)))
	alive := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(root.KeepAlive(ctx, lease))
	<-alive
	bad := metadata.AppendToOutgoingContext(ctx, "token", "expired.1")
	stream := must[etcdserverpb.Watch_WatchClient](t)(etcdserverpb.NewWatchClient(plain.ActiveConnection()).Watch(bad))
	if err := stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("k")}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err == nil && !r.Canceled {
		t.Errorf("a watch with a bad token: %v", r)
	}
	renewals := must[etcdserverpb.Lease_LeaseKeepAliveClient](t)(etcdserverpb.NewLeaseClient(plain.ActiveConnection()).LeaseKeepAlive(bad))
	if err := renewals.Send(&etcdserverpb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
		t.Fatal(err)
	}
	if r, err := renewals.Recv(); err == nil {
		t.Errorf("a renewal with a bad token: %v", r)
	}
	must[*clientv3.PutResponse](t)(root.Put(ctx, "k", "new"))
	for n, w := range all {
		if r := <-w; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "new" {
			t.Errorf("watch %d: %v, %v", n, r, r.Err())
		}
	}
	if r := must[*clientv3.LeaseKeepAliveResponse](t)(root.KeepAliveOnce(ctx, lease)); r.TTL != 600 {
		t.Errorf("a renewal: %v", r)
	}
}

// TestWatchesOfUsersOutliveTheirTokens: a member forgets its tokens when it ends, and clients log in again.
func TestWatchesOfUsersOutliveTheirTokens(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	secure(t, ctx, p.client(t))
	root, reader := p.client(t, as("root")), p.client(t, as("reader"))
	rev := must[*clientv3.PutResponse](t)(root.Put(ctx, "k", "first")).Header.Revision
	var all []clientv3.WatchChan
	for range 3 { // they share a feed
		w := reader.Watch(ctx, "k", clientv3.WithRev(rev))
		<-w
		all = append(all, w)
	}
	alone := root.Watch(ctx, "k", clientv3.WithRev(rev))
	<-alone
	up.end(t)
	up.start(t)
	eventually(t, "root is logged in again", func() bool {
		_, err := root.Put(ctx, "k", "second")
		return err == nil
	})
	for n, w := range append(all, alone) {
		if r := <-w; len(r.Events) == 0 || r.Events[0].Kv.ModRevision != rev+1 {
			t.Errorf("watch %d: %v, %v", n, r, r.Err())
		}
	}
}
