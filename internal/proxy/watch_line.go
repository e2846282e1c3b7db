package proxy

import (
	"context"
	"io"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// controlMax is how many requests may wait to be sent on a line before its client's requests wait too.
	controlMax = 1000
	// A question for progress that has no answer for likelyNever gets none, as it seems, and is taken for such a one after neverAfter: members
	// and networks stand still for seconds, and an answer from before must not count as one to a later question. unansweredMax bounds those
	// before.
	likelyNever, neverAfter, unansweredMax = time.Second, time.Minute, 1024
	// askAgain is the pause after which a question for progress that was not answered is asked again, and askAgainMax that after
	// many: members do not answer while a watcher of the line reads history.
	askAgain, askAgainMax = 100 * time.Millisecond, 5 * time.Second
)

// user is what a line serves: a session or a channel.
type user interface {
	// receive takes a response, in order.
	receive(l *line, r *etcdserverpb.WatchResponse)
	// insists tells whether questions for progress are asked until they are answered. hub.mu is held.
	insists() bool
	// ended is called once, with the reason for which the line has ended by itself.
	ended(l *line, err error)
}

// line is one stream of watches upstream. hub.mu guards its fields.
type line struct {
	hub     *hub
	user    user
	cancel  context.CancelFunc
	closed  bool
	out     []*etcdserverpb.WatchRequest
	wake    chan struct{} // holds one token while out has something
	taken   chan struct{} // holds one token after out was taken
	last    int64         // the newest id of an upstream watcher
	creates []any         // what was asked for and is not created yet, in order: watches or feeds
	asks    []askedOf     // who wants to know of progress
	// questions counts the questions for progress, and unanswered are those to which no answer has come: a member answers in their
	// order, and not each of them.
	questions  int64
	unanswered []question
}

// openLine opens a line in the name of who. It never blocks; what fails is told by ended.
// REQUIRES: hub.mu is held.
func (h *hub) openLine(who identity, u user) *line {
	ctx, cancel := context.WithCancel(who.outgoing(h.ctx))
	l := &line{hub: h, user: u, cancel: cancel, wake: make(chan struct{}, 1), taken: make(chan struct{}, 1)}
	h.running.Go(func() {
		defer cancel()
		err := l.run(ctx)
		h.mu.Lock()
		closed := l.closed
		l.closed = true
		h.mu.Unlock()
		if !closed {
			u.ended(l, err)
		}
	})
	return l
}

func (l *line) run(ctx context.Context) error {
	stream, err := l.hub.upstream.Watch(ctx)
	if err != nil {
		return err
	}
	l.hub.running.Go(func() { l.send(ctx, stream) })
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return status.Error(codes.Unavailable, "the member has ended the watch stream")
		}
		if err != nil {
			return err
		}
		for _, e := range r.Events {
			l.hub.cache.forget(e.GetKv().GetKey(), nil)
			l.hub.space.strip(e.Kv)
			l.hub.space.strip(e.PrevKv)
		}
		l.hub.newest.saw(r.Header)
		l.user.receive(l, r)
	}
}

func (l *line) send(ctx context.Context, stream etcdserverpb.Watch_WatchClient) {
	pause := askAgain
	for {
		ask := l.awaitWork(ctx, &pause)
		if ctx.Err() != nil {
			return
		}
		l.hub.mu.Lock()
		if ask && l.insists() {
			l.question()
		}
		out := l.out
		l.out = nil
		l.hub.mu.Unlock()
		poke(l.taken)
		for _, r := range out {
			if err := stream.Send(r); err != nil {
				return // the reason comes with what is received
			}
		}
	}
}

// awaitWork waits until there is something to send, or it is time to ask for progress again.
func (l *line) awaitWork(ctx context.Context, pause *time.Duration) (ask bool) {
	l.hub.mu.Lock()
	insists := l.insists()
	l.hub.mu.Unlock()
	if !insists {
		*pause = askAgain
		select {
		case <-l.wake:
		case <-ctx.Done():
		}
		return false
	}
	again := l.hub.clock.NewTimer(*pause)
	defer again.Stop()
	select {
	case <-l.wake:
		return false
	case <-again.C():
		*pause = min(2**pause, askAgainMax)
		return true
	case <-ctx.Done():
		return false
	}
}

// insists tells whether a question is to be asked again. REQUIRES: hub.mu is held.
func (l *line) insists() bool {
	passed := func(a askedOf) bool { return a.passed }
	return len(l.asks) > 0 && !l.closed && (l.user.insists() || slices.ContainsFunc(l.asks, passed))
}

// question is one that was asked for progress.
type question struct {
	n  int64 // counted from 1
	at time.Time
}

// question asks for progress, and returns the number of the question. With too many of them unanswered it does not, and returns that of the
// next one. REQUIRES: hub.mu is held.
func (l *line) question() (n int64) {
	now := l.hub.clock.Now()
	if l.expire(now); len(l.unanswered) >= unansweredMax {
		return l.questions + 1
	}
	l.questions++
	l.unanswered = append(l.unanswered, question{l.questions, now})
	l.push(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{}}})
	return l.questions
}

// expire forgets the questions that get no answer any more.
func (l *line) expire(now time.Time) {
	for len(l.unanswered) > 0 && l.unanswered[0].at.Before(now.Add(-neverAfter)) {
		l.unanswered = l.unanswered[1:]
	}
}

// stoodStill is called when nothing of the line was read for a time: no answer could come meanwhile. REQUIRES: hub.mu is held.
func (l *line) stoodStill(d time.Duration) {
	for i := range l.unanswered {
		l.unanswered[i].at = l.unanswered[i].at.Add(d)
	}
}

// answered takes note of an answer, and returns the question that it is to: at the least, as there may be later ones that it is to if a
// member has not answered all. It seems so if it comes late. REQUIRES: hub.mu is held.
func (l *line) answered() (n int64, late bool) {
	now := l.hub.clock.Now()
	l.expire(now)
	if len(l.unanswered) == 0 {
		return l.questions, false
	}
	first := l.unanswered[0]
	l.unanswered = l.unanswered[1:]
	return first.n, now.Sub(first.at) > likelyNever
}

// poke puts a token into a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// push queues a request. REQUIRES: hub.mu is held.
func (l *line) push(r *etcdserverpb.WatchRequest) {
	l.out = append(l.out, r)
	poke(l.wake)
}

// create asks for a watcher and returns its id upstream. REQUIRES: hub.mu is held.
func (l *line) create(r *etcdserverpb.WatchCreateRequest, who any) int64 {
	l.last++
	r.WatchId = l.last
	l.creates = append(l.creates, who)
	l.push(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: r}})
	return l.last
}

// created returns what the next response of creation is about: they come in the order of the requests.
// REQUIRES: hub.mu is held.
func (l *line) created() any {
	if len(l.creates) == 0 {
		return nil
	}
	first := l.creates[0]
	l.creates = l.creates[1:]
	return first
}

// drop cancels an upstream watcher. REQUIRES: hub.mu is held.
func (l *line) drop(id int64) {
	l.push(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{
		CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: id}}})
}

// close ends the line; nothing is told to its user any more. REQUIRES: hub.mu is held.
func (l *line) close() {
	l.closed = true
	l.cancel()
	poke(l.taken) // nobody takes what is left
	l.abandon()
}

// room waits until not too many requests wait to be sent.
func (l *line) room(ctx context.Context) {
	for {
		l.hub.mu.Lock()
		full := len(l.out) > controlMax && !l.closed
		l.hub.mu.Unlock()
		if !full {
			return
		}
		select {
		case <-l.taken:
		case <-ctx.Done():
			return
		}
	}
}
