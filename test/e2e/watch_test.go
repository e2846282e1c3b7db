package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// take receives responses until they hold count events.
func take(tb testing.TB, ch clientv3.WatchChan, count int) []*clientv3.Event {
	tb.Helper()
	var events []*clientv3.Event
	for len(events) < count {
		r, ok := <-ch
		if !ok {
			tb.Fatalf("the watch ended after %d of %d events", len(events), count)
		}
		noError(tb, r.Err())
		events = append(events, r.Events...)
	}
	return events
}

// told is an event in a word: what happened to which key at which revision, what was there before.
func told(e *clientv3.Event) string {
	s := fmt.Sprintf("%v %s@%d", e.Type, e.Kv.Key, e.Kv.ModRevision)
	if e.Type == clientv3.EventTypePut {
		s += fmt.Sprintf("=%s", e.Kv.Value)
	}
	if e.PrevKv != nil {
		s += fmt.Sprintf(" was %s@%d", e.PrevKv.Value, e.PrevKv.ModRevision)
	}
	return s
}

func wantTold(tb testing.TB, events []*clientv3.Event, want ...string) {
	tb.Helper()
	var got []string
	for _, e := range events {
		got = append(got, told(e))
	}
	if !slices.Equal(got, want) {
		tb.Errorf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func mustPut(tb testing.TB, ctx context.Context, c *clientv3.Client, key, value string) int64 {
	tb.Helper()
	r, err := c.Put(ctx, key, value)
	noError(tb, err)
	return r.Header.Revision
}

func TestAWatcherOfAPrefixSeesEachChangeWithWhatWasBefore(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	mustPut(t, ctx, c, "a/1", "old") // 2
	all := c.Watch(ctx, "a/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	deletes := c.Watch(ctx, "a/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithRev(2))
	if r := <-all; !r.Created {
		t.Fatalf("the first response is %+v, want the creation", r)
	}
	mustPut(t, ctx, c, "a/1", "new")   // 3
	mustPut(t, ctx, c, "b", "outside") // 4
	_, err := c.Txn(ctx).Then(clientv3.OpPut("a/2", "x"), clientv3.OpDelete("a/1")).Commit()
	noError(t, err)
	_, err = c.Delete(ctx, "a/", clientv3.WithPrefix()) // 6
	noError(t, err)
	wantTold(t, take(t, all, 4), "PUT a/1@3=new was old@2", "PUT a/2@5=x", "DELETE a/1@5 was new@3", "DELETE a/2@6 was x@5")
	wantTold(t, take(t, deletes, 2), "DELETE a/1@5", "DELETE a/2@6")
	past := c.Watch(ctx, "a/1", clientv3.WithRev(1))
	wantTold(t, take(t, past, 3), "PUT a/1@2=old", "PUT a/1@3=new", "DELETE a/1@5")
}

func TestAWatchGoesOnAfterTheServerWasKilled(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	ch := c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(1))
	const rounds, each = 3, 50
	for round := range rounds {
		for i := range each {
			mustPut(t, ctx, c, "k", fmt.Sprint(round*each+i))
		}
		s.Kill()
		s = m.start(t)
	}
	for i, e := range take(t, ch, rounds*each) {
		if string(e.Kv.Value) != fmt.Sprint(i) || e.Kv.Version != int64(i+1) {
			t.Fatalf("event %d is %s, version %d", i, told(e), e.Kv.Version)
		}
	}
}

func TestAServerThatIsToldToStopEndsWatchesAndStops(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	s := m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	ch := c.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithCreatedNotify())
	<-ch
	s.stop(t)
}

func TestAWatchOfCompactedRevisionsSaysWhereToGoOn(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	var rev int64
	for range 5 {
		rev = mustPut(t, ctx, c, "k", "v")
	}
	_, err := c.Compact(ctx, rev-1)
	noError(t, err)
	r := <-c.Watch(ctx, "k", clientv3.WithRev(2))
	if !r.Canceled || r.CompactRevision != rev-1 || !errors.Is(r.Err(), rpctypes.ErrCompacted) {
		t.Errorf("got %+v with %v, want the compact revision %d", r, r.Err(), rev-1)
	}
	if events := take(t, c.Watch(ctx, "k", clientv3.WithRev(rev-1)), 2); events[1].Kv.ModRevision != rev {
		t.Errorf("from the compact revision on: %v", events)
	}
}

func TestLargeHistoryComesInFragmentsToThoseWhoAskForThem(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	large := strings.Repeat("x", 900_000)
	const count = 8
	for i := range count {
		mustPut(t, ctx, c, fmt.Sprint("k", i), large)
	}
	fragments, events := make(chan int, 100), 0
	s := dialRaw(t, m).open(t, func(raw []byte) {
		var r etcdserverpb.WatchResponse
		if err := proto.Unmarshal(raw, &r); err != nil {
			t.Error(err)
		}
		if r.Created {
			return
		}
		if len(raw) > 3<<20 {
			t.Errorf("a fragment of %d bytes", len(raw))
		}
		if events += len(r.Events); r.Fragment == (events == count) {
			t.Errorf("after %d events the mark of a fragment is %v", events, r.Fragment)
		}
		fragments <- len(r.Events)
	})
	s.create(t, &etcdserverpb.WatchCreateRequest{Key: []byte("k"), RangeEnd: []byte("l"), StartRevision: 2, Fragment: true})
	for got := 0; got < count; {
		select {
		case n := <-fragments:
			got += n
		case <-ctx.Done():
			t.Fatalf("%d of %d events came", got, count)
		}
	}
	// The client library puts them together again.
	r := <-c.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithFragment())
	if len(r.Events) != count {
		t.Errorf("%d events in the first response, want %d", len(r.Events), count)
	}
}

func TestProgressTellsHowFarAnIdleWatchIs(t *testing.T) {
	t.Parallel()
	m := newMember(t, "--watch-progress-notify-interval", "200ms")
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	byHand := c.Watch(ctx, "idle", clientv3.WithCreatedNotify())
	<-byHand
	rev := mustPut(t, ctx, c, "other", "v")
	noError(t, c.RequestProgress(ctx))
	if r := <-byHand; !r.IsProgressNotify() || r.Header.Revision != rev {
		t.Errorf("asked for progress: %+v, want revision %d", r, rev)
	}
	notified := c.Watch(clientv3.WithRequireLeader(ctx), "idle", clientv3.WithProgressNotify())
	rev = mustPut(t, ctx, c, "other", "v")
	for r := range notified {
		noError(t, r.Err())
		if !r.IsProgressNotify() || r.Header.Revision > rev {
			t.Errorf("got %+v", r)
		}
		if r.Header.Revision == rev {
			return
		}
	}
	t.Error("the watch ended")
}

func TestACancelledWatchEndsAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	stays := c.Watch(ctx, "k", clientv3.WithCreatedNotify())
	<-stays
	short, cancel := context.WithCancel(ctx)
	ends := c.Watch(short, "k", clientv3.WithCreatedNotify())
	<-ends
	cancel()
	for range ends { // until it is closed
	}
	mustPut(t, ctx, c, "k", "v")
	wantTold(t, take(t, stays, 1), "PUT k@2=v")
}

func TestAThousandWatchersOnOneStreamEachSeeTheirOwn(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	const watchers = 1000
	var channels [watchers]clientv3.WatchChan
	for i := range channels {
		key := fmt.Sprintf("k%03d", i)
		if i%100 == 0 {
			channels[i] = c.Watch(ctx, key, clientv3.WithRange("k~"), clientv3.WithRev(2))
			continue
		}
		channels[i] = c.Watch(ctx, key, clientv3.WithRev(2))
	}
	for i := range watchers {
		mustPut(t, ctx, c, fmt.Sprintf("k%03d", i), "v")
	}
	for i, ch := range channels {
		want := 1
		if i%100 == 0 {
			want = watchers - i
		}
		events := take(t, ch, want)
		for j, e := range events {
			if string(e.Kv.Key) != fmt.Sprintf("k%03d", i+j) || len(events) != want {
				t.Fatalf("watcher %d, event %d of %d: %s", i, j, len(events), told(e))
			}
		}
	}
}

func TestAClientThatDoesNotReadDelaysNobodyAndMissesNothing(t *testing.T) {
	t.Parallel()
	m := newMember(t)
	m.start(t)
	c, ctx := m.connect(t), within(t, wholeTest)
	const count = 600
	created, read := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(read) })
	slow := make(chan int64, count)
	s := dialRaw(t, m).open(t, func(raw []byte) {
		var r etcdserverpb.WatchResponse
		if err := proto.Unmarshal(raw, &r); err != nil {
			t.Error(err)
		}
		if r.Created {
			close(created)
			<-read
		}
		for _, e := range r.Events {
			slow <- e.Kv.ModRevision
		}
	})
	t.Cleanup(release)
	s.create(t, &etcdserverpb.WatchCreateRequest{Key: []byte("k")})
	<-created
	fast := c.Watch(ctx, "k", clientv3.WithRev(2))
	value := strings.Repeat("v", 64<<10)
	for range count {
		mustPut(t, ctx, c, "k", value)
	}
	for i, e := range take(t, fast, count) {
		if e.Kv.ModRevision != int64(i+2) {
			t.Fatalf("event %d is of revision %d", i, e.Kv.ModRevision)
		}
	}
	release()
	for i := range count {
		select {
		case rev := <-slow:
			if rev != int64(i+2) {
				t.Fatalf("slow event %d is of revision %d", i, rev)
			}
		case <-ctx.Done():
			t.Fatalf("the slow client got %d of %d events", i, count)
		}
	}
}
