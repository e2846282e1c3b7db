package main

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

const (
	// heartbeatSeconds is how often a kubelet renews its node's lease.
	heartbeatSeconds = 10
	// traceTTL keeps the leases of a replay beyond its end: what expires in the midst of it would depend on the server's speed.
	traceTTL = 3600
)

// kubernetesRun replays what kube-apiserver asked for in its first minutes, several times at once and as fast as answers come, each
// time below a prefix of its own, while the kubelets of many nodes renew their leases. Answers must be as they were recorded.
func kubernetesRun(ctx context.Context, r *rig) Turn {
	pool, err := r.pool(min(r.sizes.Copies, connectionsMax))
	if err != nil {
		return failedTurn(err)
	}
	if err := warm(ctx, pool); err != nil {
		return failedTurn(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watches
	copies := make([]*replay, r.sizes.Copies)
	for i := range copies {
		copies[i] = newReplay(r.trace, fmt.Sprintf("/day/%d/%d", r.round, i), clientOf(pool, i), i == 0)
	}
	beat := r.heartbeats(pool)
	return r.measure(ctx, r.sizes.Settle, func() (tally, error) {
		begin := time.Now()
		stop, beaten := make(chan struct{}), make(chan tally, 1)
		go func() { beaten <- openLoop(ctx, max(1, r.sizes.Nodes/heartbeatSeconds), stop, beat) }()
		counts := make([]tally, len(copies))
		var running sync.WaitGroup
		for i, c := range copies {
			running.Go(func() { counts[i] = c.run(ctx, begin.Add(r.sizes.Most)) })
		}
		running.Wait()
		all := tally{elapsed: time.Since(begin)}
		close(stop)
		all.add(<-beaten)
		for _, t := range counts {
			all.add(t)
		}
		return all, nil
	})
}

// replay is one copy of the trace. Only its goroutine touches it.
type replay struct {
	lines     []traceLine
	client    *clientv3.Client
	compacts  bool            // one of the copies does: a compaction concerns all
	revisions map[int64]int64 // as recorded, and as they are here
	leases    map[int64]int64 // likewise
	newest    int64
	watches   map[int]*watched // by stream
}

// newReplay makes a copy of the trace, with all keys below a prefix.
func newReplay(trace []traceLine, prefix string, client *clientv3.Client, compacts bool) *replay {
	r := &replay{client: client, compacts: compacts, revisions: map[int64]int64{}, leases: map[int64]int64{}, watches: map[int]*watched{}}
	for _, l := range trace {
		l.request = proto.Clone(l.request)
		eachKey(l.request, func(key []byte) []byte { return append([]byte(prefix), key...) })
		r.lines = append(r.lines, l)
	}
	return r
}

// run sends the lines one after another until the end, and waits until every watch has told of every change.
func (r *replay) run(ctx context.Context, end time.Time) tally {
	var t tally
	for i := range r.lines {
		l := &r.lines[i]
		if time.Now().After(end) {
			break
		}
		at := time.Now()
		var asked bool
		err := bounded(ctx, func(opCtx context.Context) (err error) {
			asked, err = r.step(opCtx, ctx, l)
			return err
		})
		if err != nil {
			t.note(0, fmt.Errorf("line %d of the trace: %w", l.seq, err))
			return t
		}
		if asked {
			t.note(time.Since(at), nil)
		}
	}
	for _, w := range r.watches {
		if err := bounded(ctx, w.wait); err != nil {
			t.note(0, err)
			return t
		}
	}
	return t
}

// step sends one line; watches live as long as streams does. It says whether the line was a request with an answer.
func (r *replay) step(ctx, streams context.Context, l *traceLine) (asked bool, err error) {
	conn := r.client.ActiveConnection()
	switch q := l.request.(type) {
	case *etcdserverpb.WatchRequest:
		return false, r.watch(streams, l.stream, q)
	case *etcdserverpb.StatusRequest:
		_, err := etcdserverpb.NewMaintenanceClient(conn).Status(ctx, q)
		return true, err
	case *etcdserverpb.LeaseGrantRequest:
		q.TTL = traceTTL
		g, err := etcdserverpb.NewLeaseClient(conn).LeaseGrant(ctx, q)
		if err == nil {
			r.leases[l.lease] = g.ID
		}
		return true, err
	case *etcdserverpb.CompactionRequest:
		own, known := r.revisions[q.Revision]
		if !r.compacts || !known {
			return false, nil
		}
		_, err := etcdserverpb.NewKVClient(conn).Compact(ctx, &etcdserverpb.CompactionRequest{Revision: own})
		return true, err
	case *etcdserverpb.RangeRequest:
		g, err := etcdserverpb.NewKVClient(conn).Range(ctx, q)
		if err != nil {
			return true, err
		}
		r.newest = g.Header.Revision
		if l.kvs != len(g.Kvs) || l.count != g.Count {
			return true, fmt.Errorf("%d keys of %d were read, and %d of %d when it was recorded", len(g.Kvs), g.Count, l.kvs, l.count)
		}
		return true, nil
	case *etcdserverpb.TxnRequest:
		return true, r.txn(ctx, l, q)
	}
	return false, fmt.Errorf("requests of type %T are not replayed", l.request)
}

// txn sends a transaction, with the revisions and leases that its copy has in place of those recorded.
func (r *replay) txn(ctx context.Context, l *traceLine, q *etcdserverpb.TxnRequest) error {
	for _, c := range q.Compare {
		if m, ok := c.TargetUnion.(*etcdserverpb.Compare_ModRevision); ok && m.ModRevision != 0 {
			m.ModRevision = r.revisions[m.ModRevision]
		}
	}
	for _, op := range q.Success {
		if p := op.GetRequestPut(); p != nil && p.Lease != 0 {
			p.Lease = r.leases[p.Lease]
		}
	}
	t, err := etcdserverpb.NewKVClient(r.client.ActiveConnection()).Txn(ctx, q)
	if err != nil {
		return err
	}
	r.newest = t.Header.Revision
	if t.Succeeded != l.succeeded {
		return fmt.Errorf("the compare of a transaction gave %t, and %t when it was recorded", t.Succeeded, l.succeeded)
	}
	if !t.Succeeded {
		return nil
	}
	r.revisions[l.revision] = t.Header.Revision
	for i, op := range q.Success {
		key := op.GetRequestPut().GetKey()
		if t.Responses[i].GetResponseDeleteRange().GetDeleted() > 0 {
			key = op.GetRequestDeleteRange().GetKey()
		}
		for _, w := range r.watches {
			if w.covers(key) {
				w.want++
			}
		}
	}
	return nil
}

// watch sends a message of a watch stream, and opens that if it is its first one.
func (r *replay) watch(ctx context.Context, stream int, q *etcdserverpb.WatchRequest) error {
	w := r.watches[stream]
	if w == nil {
		ctx, cancel := context.WithCancel(ctx)
		s, err := etcdserverpb.NewWatchClient(r.client.ActiveConnection()).Watch(ctx)
		if err != nil {
			cancel()
			return fmt.Errorf("opening a watch stream: %w", err)
		}
		w = &watched{watching: watching{s, cancel}, more: make(chan struct{}, 1), ended: make(chan struct{})}
		r.watches[stream] = w
		go w.read()
	}
	if c := q.GetCreateRequest(); c != nil {
		c.StartRevision = r.newest + 1
		w.key, w.end = c.Key, c.RangeEnd
	}
	if err := w.Send(q); err != nil {
		return fmt.Errorf("sending to a watch stream: %w", err)
	}
	return nil
}

// watched is a stream with its watcher, and how many events it has got.
type watched struct {
	watching
	key, end []byte
	want     int // changes in its range, as the replay knows
	got      atomic.Int64
	more     chan struct{} // after got has grown
	ended    chan struct{}
	failure  error // once it has ended
}

// covers says whether a key is in the range; none is in that of a stream without a watcher.
func (w *watched) covers(key []byte) bool {
	if len(key) == 0 || len(w.key) == 0 {
		return false
	}
	if len(w.end) == 0 {
		return bytes.Equal(key, w.key)
	}
	return bytes.Compare(key, w.key) >= 0 && bytes.Compare(key, w.end) < 0
}

// read counts events until the stream ends.
func (w *watched) read() {
	defer close(w.ended)
	for {
		a, err := w.Recv()
		if err == nil && a.Canceled {
			err = fmt.Errorf("the watcher was cancelled: %s", a.CancelReason)
		}
		if err != nil {
			w.failure = err
			return
		}
		w.got.Add(int64(len(a.Events)))
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
}

// wait waits until all events have come.
func (w *watched) wait(ctx context.Context) error {
	for w.got.Load() < int64(w.want) {
		select {
		case <-w.more:
		case <-w.ended:
			return fmt.Errorf("watching %s: %w", w.key, w.failure)
		case <-ctx.Done():
			return fmt.Errorf("watching %s: %d events came, of %d", w.key, w.got.Load(), w.want)
		}
	}
	if n := w.got.Load(); n > int64(w.want) {
		return fmt.Errorf("watching %s: %d events came, of %d", w.key, n, w.want)
	}
	return nil
}
