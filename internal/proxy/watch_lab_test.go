package proxy

import (
	"context"
	"log/slog"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// watchLab is a hub whose lines say nothing and hear what a test lets them hear.
type watchLab struct {
	*hub
	t *testing.T
}

// silent never begins a stream.
type silent struct{}

func (silent) Watch(ctx context.Context, _ ...grpc.CallOption) (etcdserverpb.Watch_WatchClient, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func newWatchLab(t *testing.T) *watchLab {
	ctx, end := context.WithCancel(t.Context())
	m := &measures{}
	lab := &watchLab{newHub(ctx, silent{}, "", newCache(clock.Real(), m), &order{}, m, slog.New(slog.DiscardHandler)), t}
	t.Cleanup(func() {
		end()
		lab.running.Wait()
	})
	return lab
}

func (lab *watchLab) session() *session {
	return newSession(lab.hub, identity{})
}

// locked calls f with the lock of the hub.
func (lab *watchLab) locked(f func()) {
	lab.mu.Lock()
	defer lab.mu.Unlock()
	f()
}

// shared makes a watch of a key for each of the sessions, and has one feed serve them from a revision on.
func (lab *watchLab) shared(revision int64, sessions ...*session) *feed {
	lab.t.Helper()
	for _, s := range sessions {
		lab.locked(func() { s.create(&etcdserverpb.WatchCreateRequest{Key: []byte("k")}) })
		lab.hear(s.line, &etcdserverpb.WatchResponse{Created: true}, revision)
	}
	c := lab.channels[identity{}]
	if c == nil {
		lab.t.Fatal("nothing is shared")
	}
	lab.hear(c.line, &etcdserverpb.WatchResponse{Created: true}, revision)
	for _, f := range c.feeds {
		if len(f.watches) != len(sessions) {
			lab.t.Fatalf("%d watches are shared", len(f.watches))
		}
		return f
	}
	lab.t.Fatal("there is no feed")
	return nil
}

// hear has a line hear a response at a revision.
func (lab *watchLab) hear(l *line, r *etcdserverpb.WatchResponse, revision int64) {
	r.Header = &etcdserverpb.ResponseHeader{Revision: revision}
	lab.newest.saw(r.Header)
	l.user.receive(l, r)
}

// progress returns the revisions that a session was told in answer to its questions.
func progress(s *session) (told []int64) {
	for r := s.queue.pop(); r != nil; r = s.queue.pop() {
		if r.WatchId == unnumbered && !r.Created {
			told = append(told, r.GetHeader().GetRevision())
		}
	}
	return told
}
