package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// watcher watches everything that a workload does, from its first revision to its last, and goes on elsewhere when it breaks: at
// the same member if it can, or, if it roams, at the next one. It checks what it is told.
type watcher struct {
	*workload
	name  string
	only  string // the endpoint, unless it is one of the workload's
	turn  int
	roams bool
	ended string // what of the end of a stream it has complained last

	mu       sync.Mutex // guards the rest
	timeline *timeline
	next     int64 // the first revision that it was not told of
	breaks   int
	marks    int // how often it was told how far it is
}

// seen says whether the watcher was told of everything up to a revision.
func (w *watcher) seen(revision int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.next > revision
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.watch(ctx)
		w.mu.Lock()
		w.breaks++
		w.mu.Unlock()
		if w.roams {
			w.turn++
		}
		rest(ctx)
	}
}

// restTime keeps clients of members that are not there from doing nothing but dialling.
const restTime = 20 * time.Millisecond

func rest(ctx context.Context) {
	select {
	case <-time.After(restTime):
	case <-ctx.Done():
	}
}

// markEvery is how many answers a watcher takes before it asks how far it is; a roaming one then goes on at another member
// after some more.
const markEvery, moveEvery = 20, 300

// watch watches at one member until that breaks.
func (w *watcher) watch(ctx context.Context) {
	endpoint := w.only
	if endpoint == "" {
		endpoint = w.endpoint(w.turn)
	}
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Context: ctx})
	if err != nil {
		w.tb.Error(err)
		return
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if w.roams {
		ctx = metadata.AppendToOutgoingContext(ctx, "hasleader", "true") // end where there is no leader
	}
	s, err := etcdserverpb.NewWatchClient(cl.ActiveConnection()).Watch(ctx)
	if err != nil {
		return
	}
	w.mu.Lock()
	from := w.next
	w.mu.Unlock()
	create := &etcdserverpb.WatchCreateRequest{
		Key: []byte(w.prefix), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(w.prefix)), StartRevision: from, PrevKv: true, ProgressNotify: true,
	}
	if s.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}}) != nil {
		return
	}
	for n := 1; !w.roams || n < moveEvery; n++ {
		if n%markEvery == 0 && s.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{}}) != nil {
			return
		}
		resp, err := s.Recv()
		if err != nil {
			w.broke(ctx, err)
			return
		}
		if resp.Canceled {
			if resp.CompactRevision > 0 {
				w.skip(resp.CompactRevision)
			}
			return
		}
		w.take(resp)
	}
}

// broke takes what a stream of watches ended with before ctx did. A connection breaks, and a member that ends or follows nobody sends its clients on.
// Whatever else is wrong with one watch is for that one to be told: the stream is that of others, too. What stays wrong is said once.
func (w *watcher) broke(ctx context.Context, err error) {
	if ctx.Err() != nil || passes(err) || err.Error() == w.ended {
		return
	}
	w.ended = err.Error()
	w.complain(fmt.Errorf("the stream of its watch ended: %w", err))
}

// skip goes on where history begins, since what was before is compacted: a watch ends so where it began below that, and where its member has
// fallen behind. What it was not told another watcher was.
func (w *watcher) skip(compacted int64) {
	w.mu.Lock()
	from := w.next
	w.mu.Unlock()
	if err := w.past.refuse(from, compacted); err != nil {
		w.complain(err)
		return
	}
	missed := w.told(from, compacted-1, w)
	if missed == nil {
		w.complain(fmt.Errorf("no watcher was told of all below %d, which is compacted", compacted))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timeline.adopt(missed.events)
	w.next = compacted
}

// take checks one answer: whole revisions, in order, none twice, and none below where an earlier answer said that the watcher is.
func (w *watcher) take(resp *etcdserverpb.WatchResponse) {
	now := w.history.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if resp.Created {
		return
	}
	if len(resp.Events) == 0 { // it is told how far it is
		w.marks++
		w.next = max(w.next, resp.Header.Revision+1)
		return
	}
	first, last := resp.Events[0].Kv.ModRevision, resp.Events[len(resp.Events)-1].Kv.ModRevision
	if first < w.next {
		w.complain(fmt.Errorf("an event of revision %d after everything below %d", first, w.next))
	}
	if resp.Header.Revision < last {
		w.complain(fmt.Errorf("an event of revision %d in an answer of %d", last, resp.Header.Revision))
	}
	for _, e := range resp.Events {
		x := (*clientv3.Event)(e)
		if err := w.timeline.add(x); err != nil {
			w.complain(err)
		}
		if x.Type == clientv3.EventTypeDelete {
			w.gone(string(x.Kv.Key), now)
		}
	}
	w.next = max(w.next, last+1)
}

func (w *watcher) complain(err error) { w.tb.Errorf("%s: %v", w.name, err) }
