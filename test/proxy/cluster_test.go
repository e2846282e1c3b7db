package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// TestEndpointsAreThoseOfTheClusterAfterAWhile begins at an address that ends once the proxy knows the member's own.
func TestEndpointsAreThoseOfTheClusterAfterAWhile(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	way := runCommand(t, "gateway", "start", "--listen-addr=127.0.0.1:0", "--endpoints="+up.address)
	p := runProxy(t, way.addresses[0], "--endpoints-auto-sync-interval=20ms")
	eventually(t, "the proxy learns of the member's own address", func() bool {
		return strings.Contains(p.log.String(), "the cluster has other endpoints")
	})
	way.stop()
	c := p.client(t)
	eventually(t, "a write comes through", func() bool {
		_, err := c.Put(soon(t), "k", "v")
		return err == nil
	})
	if code, text := get(t, http.DefaultClient, "http://"+p.addresses[0]+"/metrics"); code != http.StatusOK || !strings.Contains(text, "etcd_server_has_leader 1") {
		t.Errorf("the member's metrics: %d, %.200s", code, text)
	}
}

// TestAnotherMemberTakesOver when the one ends that serves a shared watch.
func TestAnotherMemberTakesOver(t *testing.T) {
	t.Parallel()
	members := runMembers(t, 3)
	var addresses []string
	for _, m := range members {
		addresses = append(addresses, m.address)
	}
	p := runProxy(t, strings.Join(addresses, ","))
	ctx := soon(t)
	c := p.client(t)
	put := func(value int) {
		t.Helper()
		eventually(t, "a write comes through", func() bool {
			_, err := c.Put(ctx, "k", fmt.Sprint(value))
			return err == nil
		})
	}
	written := func() (revision int64) {
		t.Helper()
		eventually(t, "a read comes through", func() bool {
			r, err := c.Get(ctx, "k")
			if err == nil {
				revision = r.Kvs[0].ModRevision
			}
			return err == nil
		})
		return revision
	}
	put(-1)
	rev := written()
	const many = 6
	var clients []*clientv3.Client
	var all []clientv3.WatchChan
	for range many {
		one := p.client(t)
		w := one.Watch(ctx, "k", clientv3.WithRev(rev+1), clientv3.WithCreatedNotify())
		<-w
		clients, all = append(clients, one), append(all, w)
	}
	eventually(t, "all are shared", func() bool {
		return metric(t, "http://"+p.addresses[0]+"/proxy/metrics", "etcd_grpc_proxy_watchers_coalescing_total") == fmt.Sprint(many)
	})
	put(0)
	var serving *upstream
	eventually(t, "one watcher of one member serves all", func() bool {
		sum := 0
		for _, m := range members {
			n := watchers(t, m)
			if sum += n; n > 0 {
				serving = m
			}
		}
		return sum == 1
	})
	serving.end(t)
	put(1)
	put(2)
	want := written()
	mustSeeEach(t, all, rev, want)
	for n, w := range all { // without another write, and asked once
		if err := clients[n].RequestProgress(ctx); err != nil {
			t.Fatal(err)
		}
		if r := <-w; !r.IsProgressNotify() || r.Header.Revision < want {
			t.Fatalf("watch %d: %v, want progress at %d", n, r, want)
		}
	}
}
