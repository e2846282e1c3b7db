package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// watchers is how many watchers a member has.
func watchers(t *testing.T, up *upstream) int {
	t.Helper()
	n, err := strconv.Atoi(metric(t, "http://"+up.address+"/metrics", "etcd_debugging_mvcc_watcher_total"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWatchesOfManyClientsAreOneUpstream(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx, end := context.WithCancel(soon(t))
	defer end()
	const many = 20
	var all []clientv3.WatchChan
	for range many {
		w := p.client(t).Watch(ctx, "k", clientv3.WithCreatedNotify())
		<-w
		all = append(all, w)
	}
	other := p.client(t)
	alone := other.Watch(ctx, "k", clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	<-alone
	eventually(t, "the member has one watcher for all, and one for the other", func() bool { return watchers(t, up) == 2 })
	if got := metric(t, "http://"+p.addresses[0]+"/proxy/metrics", "etcd_grpc_proxy_watchers_coalescing_total"); got != strconv.Itoa(many) {
		t.Errorf("%s watches are shared", got)
	}
	c := p.client(t)
	for i := range 3 {
		must[*clientv3.PutResponse](t)(c.Put(ctx, "k", fmt.Sprint(i)))
	}
	for n, w := range append(all, alone) {
		next := 0
		for next < 3 {
			r, ok := <-w
			if !ok || r.Err() != nil {
				t.Fatalf("watch %d ended: %v", n, r.Err())
			}
			for _, e := range r.Events {
				if string(e.Kv.Value) != fmt.Sprint(next) || (e.PrevKv != nil) != (n == many && next > 0) {
					t.Fatalf("watch %d: %v, want %d", n, e, next)
				}
				next++
			}
		}
	}
	end()
	eventually(t, "nobody watches any more", func() bool { return watchers(t, up) == 0 })
}

// taken is what one watch got.
type taken struct {
	name     string
	key      string // k is all keys
	from, to int64
	keys     map[int64]string // by revision
}

// check compares it with the history: by revision, the key that was written.
func (x *taken) check(t *testing.T, history map[int64]string) {
	t.Helper()
	for rev := x.from; rev <= x.to; rev++ {
		want := history[rev]
		if x.key != "k" && want != x.key {
			want = ""
		}
		if x.keys[rev] != want {
			t.Errorf("%s, of %s from %d to %d: revision %d is %q, want %q", x.name, x.key, x.from, x.to, rev, x.keys[rev], want)
			return
		}
	}
}

// take watches a key, or all keys that begin with k, until a revision; the last event may come two revisions before it.
func take(t *testing.T, ctx context.Context, c *clientv3.Client, name string, from, until int64, key string, fragment bool) *taken {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	opts := []clientv3.OpOption{clientv3.WithRev(from)}
	if key == "k" {
		opts = append(opts, clientv3.WithPrefix())
	}
	if fragment {
		opts = append(opts, clientv3.WithFragment())
	}
	x := &taken{name: name, key: key, from: from, to: from - 1, keys: map[int64]string{}}
	ch := c.Watch(ctx, key, opts...)
	for x.to < until-2 {
		r, ok := <-ch
		if !ok || r.Err() != nil {
			t.Errorf("%s: ended: %v", name, r.Err())
			return x
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision <= x.to {
				t.Errorf("%s: revision %d after %d", name, e.Kv.ModRevision, x.to)
			}
			x.to = e.Kv.ModRevision
			x.keys[x.to] = string(e.Kv.Key)
		}
	}
	return x
}

// TestEveryWatchGetsEveryEventOnce lets watches begin and end anywhere in a history that grows, and compares what each got with it.
func TestEveryWatchGetsEveryEventOnce(t *testing.T) {
	t.Parallel()
	const writes, clients, rounds = 1000, 8, 12
	up := runMember(t, nil)
	p := runProxy(t, up.address, "--namespace=n/")
	ctx := soon(t)
	c := p.client(t)
	first := must[*clientv3.PutResponse](t)(c.Put(ctx, "k0", "first")).Header.Revision
	end := first + writes // as nobody else writes
	var last atomic.Int64
	last.Store(first)
	history := map[int64]string{}
	var all sync.WaitGroup
	all.Go(func() {
		for i := range writes {
			key := fmt.Sprintf("k%d", i%3)
			r, err := c.Put(ctx, key, fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			history[r.Header.Revision] = key
			last.Store(r.Header.Revision)
		}
	})
	got := make([][]*taken, clients)
	for n := range clients {
		mine := p.client(t)
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 1))
			for round := range rounds {
				now := last.Load()
				from := first + 1 + random.Int64N(now-first+1)
				switch random.IntN(4) {
				case 0:
					from = now + random.Int64N(20) + 1
				case 1:
					from = now
				}
				from = max(first+1, min(from, end))
				until := min(end, now+random.Int64N(100))
				if round == rounds-1 {
					until = end
				}
				key := []string{"k1", "k"}[random.IntN(2)]
				name := fmt.Sprintf("client %d, round %d", n, round)
				got[n] = append(got[n], take(t, ctx, mine, name, from, until, key, random.IntN(5) == 0))
			}
		})
	}
	all.Wait()
	for _, x := range slices.Concat(got...) {
		x.check(t, history)
	}
	if metric(t, "http://"+p.addresses[0]+"/proxy/metrics", "etcd_grpc_proxy_events_coalescing_total") == "0" {
		t.Error("nothing was shared")
	}
}

func TestWatchesThatCannotBeServedSayWhy(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	c := p.client(t)
	ctx := soon(t)
	var rev int64
	for range 5 {
		rev = must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v")).Header.Revision
	}
	must[*clientv3.CompactResponse](t)(c.Compact(ctx, rev))
	for r := range c.Watch(ctx, "k", clientv3.WithRev(1)) {
		if r.Canceled && (!errors.Is(r.Err(), rpctypes.ErrCompacted) || r.CompactRevision != rev) {
			t.Errorf("it ended with %v, compacted at %d", r.Err(), r.CompactRevision)
		}
	}
	// A watch of the far future holds up nobody.
	future := c.Watch(ctx, "k", clientv3.WithRev(rev+3), clientv3.WithCreatedNotify())
	<-future
	var others []clientv3.WatchChan
	for range 3 {
		w := p.client(t).Watch(ctx, "k", clientv3.WithCreatedNotify())
		<-w
		others = append(others, w)
	}
	for range 3 {
		must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "v"))
	}
	for i, w := range append(others, future) {
		next := rev + 1
		if i == len(others) {
			next = rev + 3
		}
		for next <= rev+3 {
			for _, e := range (<-w).Events {
				if e.Kv.ModRevision != next {
					t.Fatalf("watch %d: revision %d, want %d", i, e.Kv.ModRevision, next)
				}
				next++
			}
		}
	}
}

func TestProgressIsToldOfSharedWatches(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	var clients []*clientv3.Client
	var all []clientv3.WatchChan
	for range 3 {
		c := p.client(t)
		clients = append(clients, c)
		for _, key := range []string{"k", "l"} {
			w := c.Watch(ctx, key, clientv3.WithCreatedNotify())
			<-w
			all = append(all, w)
		}
	}
	rev := must[*clientv3.PutResponse](t)(clients[0].Put(ctx, "elsewhere", "v")).Header.Revision
	for i, c := range clients {
		told := make(chan int64, 2)
		for _, w := range all[2*i : 2*i+2] {
			go func() {
				for r := range w {
					if r.IsProgressNotify() && r.Header.Revision >= rev {
						told <- r.Header.Revision
						return
					}
				}
			}()
		}
		left := 2
		eventually(t, "each watch is told how far it is", func() bool {
			if err := c.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case <-told:
				left--
			default:
			}
			return left == 0
		})
	}
}

func TestWatchesGoOnWhenTheMemberComesBack(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	c := p.client(t)
	rev := must[*clientv3.PutResponse](t)(c.Put(ctx, "k", "first")).Header.Revision
	var all []clientv3.WatchChan
	for range 5 {
		w := p.client(t).Watch(ctx, "k", clientv3.WithRev(rev))
		<-w
		all = append(all, w)
	}
	up.end(t)
	up.start(t)
	const more = 3
	for i := 0; i < more; {
		if _, err := c.Put(ctx, "k", fmt.Sprint(i)); err == nil {
			i++
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	want := must[*clientv3.GetResponse](t)(c.Get(ctx, "k")).Kvs[0].ModRevision
	mustSeeEach(t, all, rev, want)
}

// TestNumbersOfWatchesAreThoseOfAMember: a watch that is refused takes none.
func TestNumbersOfWatchesAreThoseOfAMember(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	secure(t, ctx, p.client(t))
	reader := p.client(t, as("reader"))
	login := must[*clientv3.AuthenticateResponse](t)(reader.Authenticate(ctx, "reader", "reader"))
	var answers [2][]string
	for i, address := range []string{up.address, p.addresses[0]} {
		raw := etcdserverpb.NewWatchClient(client(t, address).ActiveConnection())
		w := must[etcdserverpb.Watch_WatchClient](t)(raw.Watch(metadata.AppendToOutgoingContext(ctx, "token", login.Token)))
		ask := func(q *etcdserverpb.WatchRequest) {
			if err := w.Send(q); err != nil {
				t.Fatal(err)
			}
			r := must[*etcdserverpb.WatchResponse](t)(w.Recv())
			answers[i] = append(answers[i], fmt.Sprint(r.WatchId, r.Created, r.Canceled, r.CancelReason))
		}
		for _, q := range []*etcdserverpb.WatchCreateRequest{{Key: []byte("k")}, {Key: []byte("secret")}, {Key: []byte("k")},
			{Key: []byte("k"), WatchId: 2}, {Key: []byte("k")}, {Key: []byte("k"), WatchId: 1}} {
			ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: q}})
		}
		for _, id := range []int64{1, 0, 2} {
			ask(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: id}}})
		}
	}
	if !slices.Equal(answers[0], answers[1]) {
		t.Errorf("the member answers\n%q\nthe proxy\n%q", answers[0], answers[1])
	}
}

// TestQuietWatchesBecomeShared: those that begin in history and find nothing there, once it is known how far they are.
func TestQuietWatchesBecomeShared(t *testing.T) {
	t.Parallel()
	up := runMember(t, nil)
	p := runProxy(t, up.address)
	ctx := soon(t)
	rev := must[*clientv3.PutResponse](t)(p.client(t).Put(ctx, "other", "1")).Header.Revision
	want := must[*clientv3.PutResponse](t)(p.client(t).Put(ctx, "other", "2")).Header.Revision
	for range 3 {
		c := p.client(t)
		w := c.Watch(ctx, "k", clientv3.WithRev(rev), clientv3.WithCreatedNotify())
		<-w
		eventually(t, "the question is answered", func() bool { // a member does not answer while it reads history
			if err := c.RequestProgress(ctx); err != nil {
				t.Fatal(err)
			}
			select {
			case r := <-w:
				return r.IsProgressNotify() && r.Header.Revision >= want
			default:
				return false
			}
		})
	}
	eventually(t, "one watcher serves all", func() bool { return watchers(t, up) == 1 })
}

// mustSeeEach takes from each watch the events of all revisions after rev, up to want, one a revision.
func mustSeeEach(t *testing.T, all []clientv3.WatchChan, rev, want int64) {
	t.Helper()
	for n, w := range all {
		for next := rev + 1; next <= want; {
			r, ok := <-w
			if !ok || r.Err() != nil {
				t.Fatalf("watch %d ended: %v", n, r.Err())
			}
			for _, e := range r.Events {
				if e.Kv.ModRevision != next {
					t.Fatalf("watch %d: revision %d, want %d", n, e.Kv.ModRevision, next)
				}
				next++
			}
		}
	}
}
