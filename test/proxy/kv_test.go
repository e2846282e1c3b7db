package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/lockpb"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

func TestRequestsArePassedOn(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	c, direct := p.client(t), client(t, up.address)
	ctx := soon(t)
	put := must[*clientv3.PutResponse](t)(c.Put(ctx, "a", "1"))
	if got := must[*clientv3.GetResponse](t)(direct.Get(ctx, "a")); string(got.Kvs[0].Value) != "1" || got.Header.Revision != put.Header.Revision {
		t.Errorf("the member has %v", got)
	}
	txn := must[*clientv3.TxnResponse](t)(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).
		Then(clientv3.OpPut("b", "2"), clientv3.OpGet("a", clientv3.WithPrefix())).Commit())
	if !txn.Succeeded || len(txn.Responses) != 2 || len(txn.Responses[1].GetResponseRange().Kvs) != 1 {
		t.Errorf("a transaction: %v", txn)
	}
	if got := must[*clientv3.DeleteResponse](t)(c.Delete(ctx, "a", clientv3.WithFromKey(), clientv3.WithPrevKV())); got.Deleted != 2 || len(got.PrevKvs) != 2 {
		t.Errorf("a deletion: %v", got)
	}
	must[*clientv3.CompactResponse](t)(c.Compact(ctx, txn.Header.Revision))
	if _, err := c.Get(ctx, "a", clientv3.WithRev(1)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a compacted read: %v", err)
	}
	if _, err := c.Put(ctx, "", "x"); !errors.Is(err, rpctypes.ErrEmptyKey) {
		t.Errorf("an empty key: %v", err)
	}
	if got := must[*clientv3.StatusResponse](t)(c.Status(ctx, p.addresses[0])); got.Version == "" {
		t.Errorf("status: %v", got)
	}
	saved := must[*clientv3.SnapshotResponse](t)(c.SnapshotWithVersion(ctx))
	if n, err := saved.Snapshot.Read(make([]byte, 4096)); n == 0 || err != nil {
		t.Errorf("a snapshot: %d bytes, %v", n, err)
	}
	_ = saved.Snapshot.Close()
	if got := must[*clientv3.MemberListResponse](t)(c.MemberList(ctx)); len(got.Members) != 1 || got.Members[0].ClientURLs[0] != "127.0.0.1:23790" {
		t.Errorf("members: %v", got)
	}
}

// TestASnapshotGoesOnThroughTheProxy asks for a snapshot as a backup does, and then for what follows its beginning. The member says in the
// header of each answer which transfer it is, and where it begins.
func TestASnapshotGoesOnThroughTheProxy(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	c := runProxy(t, up.address).client(t)
	ctx := soon(t)
	ask := func(id, offset string) (gotID, gotOffset string, bytes int) {
		t.Helper()
		s := must[etcdserverpb.Maintenance_SnapshotClient](t)(etcdserverpb.NewMaintenanceClient(c.ActiveConnection()).Snapshot(
			metadata.AppendToOutgoingContext(ctx, snapshot.TransferKey, id, snapshot.OffsetKey, offset), &etcdserverpb.SnapshotRequest{}))
		for {
			r, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			bytes += len(must[*etcdserverpb.SnapshotResponse](t)(r, err).Blob)
		}
		header := must[metadata.MD](t)(s.Header())
		return strings.Join(header.Get(snapshot.TransferKey), " "), strings.Join(header.Get(snapshot.OffsetKey), " "), bytes
	}
	id, offset, all := ask(snapshot.TransferNew, "0")
	if id == "" || offset != "0" {
		t.Fatalf("a new transfer: got id %q from %q", id, offset)
	}
	if again, from, rest := ask(id, "1000"); again != id || from != "1000" || rest != all-1000 {
		t.Errorf("the rest of the %d bytes of %s: got %d of %q from %q", all, id, rest, again, from)
	}
}

func TestANamespaceIsAllThatClientsSee(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	c, direct := runProxy(t, up.address, "--namespace=ns/").client(t), client(t, up.address)
	ctx := soon(t)
	must[*clientv3.PutResponse](t)(direct.Put(ctx, "ns", "outside"))
	must[*clientv3.PutResponse](t)(direct.Put(ctx, "nt", "outside"))
	watched := c.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-watched
	must[*clientv3.PutResponse](t)(direct.Put(ctx, "nt", "outside again"))
	lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 600)).ID
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v", clientv3.WithLease(lease)))
	if e := <-watched; len(e.Events) != 1 || string(e.Events[0].Kv.Key) != "k" {
		t.Errorf("watched %v", e.Events)
	}
	if got := must[*clientv3.GetResponse](t)(direct.Get(ctx, "ns/k")); len(got.Kvs) != 1 {
		t.Errorf("the member has %v", got)
	}
	for name, opts := range map[string][]clientv3.OpOption{"all": {clientv3.WithFromKey()}, "a prefix": {clientv3.WithPrefix()},
		"serializable": {clientv3.WithPrefix(), clientv3.WithSerializable()}} {
		if got := must[*clientv3.GetResponse](t)(c.Get(ctx, "", opts...)); len(got.Kvs) != 1 || string(got.Kvs[0].Key) != "k" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := must[*clientv3.LeaseTimeToLiveResponse](t)(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())); len(got.Keys) != 1 || string(got.Keys[0]) != "k" {
		t.Errorf("keys of the lease: %q", got.Keys)
	}
	lock := lockpb.NewLockClient(c.ActiveConnection())
	held := must[*lockpb.LockResponse](t)(lock.Lock(ctx, &lockpb.LockRequest{Name: []byte("l"), Lease: int64(lease)}))
	if got := must[*clientv3.GetResponse](t)(direct.Get(ctx, "ns/"+string(held.Key))); len(got.Kvs) != 1 {
		t.Errorf("the lock's key %q is not in the namespace", held.Key)
	}
	must[*lockpb.UnlockResponse](t)(lock.Unlock(ctx, &lockpb.UnlockRequest{Key: held.Key}))
	session := must[*concurrency.Session](t)(concurrency.NewSession(c, concurrency.WithLease(lease)))
	election := concurrency.NewElection(session, "e")
	if err := election.Campaign(ctx, "me"); err != nil {
		t.Fatal(err)
	}
	leader := must[*lockpb.LeaderResponse](t)(lockpb.NewElectionClient(c.ActiveConnection()).Leader(ctx, &lockpb.LeaderRequest{Name: []byte("e")}))
	if string(leader.Kv.Value) != "me" || string(leader.Kv.Key) != election.Key() {
		t.Errorf("the leader is %v, not %s", leader.Kv, election.Key())
	}
}

func TestSerializableReadsAreKeptUntilAWrite(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	c := p.client(t)
	ctx := soon(t)
	at := "http://" + p.addresses[0] + "/proxy/metrics"
	must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "1"))
	eventually(t, "a read is answered from the cache", func() bool {
		for range 10 { // so that two of them are close together
			must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithSerializable()))
		}
		hits := metric(t, at, "etcd_grpc_proxy_cache_hits_total")
		return hits != "" && hits != "0"
	})
	for name, write := range map[string]func(value string) error{
		"a put": func(v string) error { _, err := c.Put(ctx, "k", v); return err },
		"a transaction": func(v string) error {
			_, err := c.Txn(ctx).Then(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpPut("k", v)}, []clientv3.Op{clientv3.OpPut("k", v)})).Commit()
			return err
		},
		"a deletion of a range": func(v string) error {
			if _, err := c.Delete(ctx, "a", clientv3.WithRange("z")); err != nil {
				return err
			}
			_, err := c.Put(ctx, "k", v)
			return err
		},
	} {
		for _, value := range []string{name + " 1", name + " 2"} {
			must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithSerializable()))
			must[*clientv3.GetResponse](t)(c.Get(ctx, "j", clientv3.WithRange("l"), clientv3.WithSerializable()))
			if err := write(value); err != nil {
				t.Fatal(err)
			}
			one := must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithSerializable()))
			many := must[*clientv3.GetResponse](t)(c.Get(ctx, "j", clientv3.WithRange("l"), clientv3.WithSerializable()))
			if string(one.Kvs[0].Value) != value || string(many.Kvs[0].Value) != value {
				t.Errorf("after %s: %v and %v", value, one.Kvs, many.Kvs)
			}
		}
	}
	// What others write is seen in time, too.
	must[*clientv3.PutResponse](t)(client(t, up.address).Put(ctx, "k", "elsewhere"))
	eventually(t, "a write that went elsewhere is seen", func() bool {
		return string(must[*clientv3.GetResponse](t)(c.Get(ctx, "k", clientv3.WithSerializable())).Kvs[0].Value) == "elsewhere"
	})
}

func TestWithoutUpstreamRequestsFailAndThenGoOn(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	c := p.client(t)
	must[*clientv3.PutResponse](t)(c.Put(soon(t), "k", "v"))
	up.end(t)
	eventually(t, "requests fail for want of a member", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := c.Put(ctx, "k", "v2")
		return status.Code(err) == codes.Unavailable
	})
	up.start(t)
	eventually(t, "requests are answered again", func() bool {
		_, err := c.Get(soon(t), "k")
		return err == nil
	})
}

// TestWhatAnElectionWritesIsNotReadFromBefore: its service writes keys, too.
func TestWhatAnElectionWritesIsNotReadFromBefore(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	for name, flags := range map[string][]string{"as it is": nil, "in a namespace": {"--namespace=n/"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := runProxy(t, up.address, flags...).client(t)
			ctx := soon(t)
			lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 600)).ID
			election := lockpb.NewElectionClient(c.ActiveConnection())
			leader := must[*lockpb.CampaignResponse](t)(election.Campaign(ctx, &lockpb.CampaignRequest{Name: []byte("e"), Lease: int64(lease)})).Leader
			for i := range 5 {
				must[*clientv3.GetResponse](t)(c.Get(ctx, string(leader.Key), clientv3.WithSerializable()))
				want := fmt.Sprint(i)
				must[*lockpb.ProclaimResponse](t)(election.Proclaim(ctx, &lockpb.ProclaimRequest{Leader: leader, Value: []byte(want)}))
				if got := must[*clientv3.GetResponse](t)(c.Get(ctx, string(leader.Key), clientv3.WithSerializable())); string(got.Kvs[0].Value) != want {
					t.Errorf("after %s was proclaimed %q is read", want, got.Kvs[0].Value)
				}
			}
		})
	}
}
