package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const reasonDuplicate = "mvcc: duplicate watch ID provided on the WatchStream"

// unnumbered is the id in answers about no watch of the client.
const unnumbered = -1

// session is one stream of watches of a client. hub.mu guards its fields.
type session struct {
	hub     *hub
	who     identity
	queue   *queue
	failed  chan error // holds the first reason for which the stream must end
	watches map[int64]*watch
	nextID  int64
	line    *line               // for private watches; nil while there are none
	byLine  map[int64]*watch    // private watches by their id upstream
	behind  map[*watch]struct{} // watches that have left a feed, until the client has taken what waits
	late    atomic.Bool         // there are such
	gone    bool
	asking  *ask                         // the question that is not answered yet
	header  *etcdserverpb.ResponseHeader // the newest one
}

// watch is one watch of a client. hub.mu guards its fields.
type watch struct {
	session  *session
	id       int64 // the client's, once it is numbered
	numbered bool
	request  *etcdserverpb.WatchCreateRequest
	key      groupKey
	next     int64 // the first revision of which the client may not know everything; set once told
	told     bool  // the client knows that the watch is there
	up       int64 // its id on the session's line, while it is private
	group    *group
	feed     *feed
	ending   bool // the client has cancelled it, and upstream is to say that it has ended
}

// Watch implements etcdserverpb.WatchServer.
func (h *hub) Watch(stream etcdserverpb.Watch_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s := &session{hub: h, who: identityOf(ctx), queue: newQueue(), failed: make(chan error, 1),
		watches: map[int64]*watch{}, byLine: map[int64]*watch{}, behind: map[*watch]struct{}{}}
	defer s.end()
	go func() {
		err := s.requests(ctx, stream)
		if !errors.Is(err, io.EOF) { // who has said all goes on listening
			s.fail(err)
		}
	}()
	for {
		for r := s.queue.pop(); r != nil; r = s.queue.pop() {
			if err := stream.Send(r); err != nil {
				return err
			}
			if s.late.Load() && s.queue.low() {
				s.catchUp()
			}
		}
		select {
		case <-s.queue.wake:
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-h.ctx.Done():
			return status.Error(codes.Unavailable, "the proxy is stopping")
		}
	}
}

func (s *session) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// end takes everything of the session away.
func (s *session) end() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.gone = true
	for _, w := range s.watches {
		s.hub.leave(w)
	}
	if s.line != nil {
		s.line.close()
	}
	s.queue.close()
}

func (s *session) requests(ctx context.Context, stream etcdserverpb.Watch_WatchServer) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		s.queue.room() // who takes no answers is not listened to
		s.hub.mu.Lock()
		switch u := r.RequestUnion.(type) {
		case *etcdserverpb.WatchRequest_CreateRequest:
			if u.CreateRequest != nil {
				s.create(u.CreateRequest)
			}
		case *etcdserverpb.WatchRequest_CancelRequest:
			if u.CancelRequest != nil {
				s.cancel(u.CancelRequest.WatchId)
			}
		case *etcdserverpb.WatchRequest_ProgressRequest:
			s.ask()
		}
		l := s.line
		s.hub.mu.Unlock()
		if l != nil {
			l.room(ctx)
		}
	}
}

// create begins a watch. REQUIRES: hub.mu is held.
func (s *session) create(r *etcdserverpb.WatchCreateRequest) {
	id := r.WatchId
	if id != 0 && s.watches[id] != nil {
		s.queue.push(&etcdserverpb.WatchResponse{Header: s.header, WatchId: unnumbered, Created: true, Canceled: true, CancelReason: reasonDuplicate})
		return
	}
	w := &watch{session: s, id: id, request: r, key: keyOf(s.who, r)}
	if id != 0 { // others get theirs when upstream has made them
		w.numbered, s.watches[id] = true, w
	}
	s.private(w, r.StartRevision)
}

// number gives a watch that upstream has made the lowest number that was not given yet, unless the client has chosen one.
// REQUIRES: hub.mu is held.
func (s *session) number(w *watch) {
	if w.numbered {
		return
	}
	for s.watches[s.nextID] != nil {
		s.nextID++
	}
	w.id, w.numbered = s.nextID, true
	s.nextID++
	s.watches[w.id] = w
}

// private has a watch served by the session's own line, from a revision on. REQUIRES: hub.mu is held.
func (s *session) private(w *watch, from int64) {
	if s.line == nil {
		s.line = s.hub.openLine(s.who, s)
	}
	r := s.hub.space.watch(w.request)
	r.StartRevision = from
	w.up = s.line.create(r, w)
	s.byLine[w.up] = w
}

// leaveLine ends the part of the session's line in a watch. REQUIRES: hub.mu is held.
func (s *session) leaveLine(w *watch) {
	if w.up == 0 {
		return
	}
	delete(s.byLine, w.up)
	s.line.drop(w.up)
	w.up = 0
	if len(s.byLine) == 0 && len(s.line.creates) == 0 {
		l := s.line
		s.line = nil
		l.close()
	}
}

// cancel ends a watch that the client wants no more. One that it does not know is left alone, as at a member.
// REQUIRES: hub.mu is held.
func (s *session) cancel(id int64) {
	w := s.watches[id]
	if w == nil {
		return
	}
	if w.up != 0 { // upstream says that it has ended, after what it has told before
		w.ending = true
		s.line.drop(w.up)
		return
	}
	s.forget(w)
	s.queue.push(&etcdserverpb.WatchResponse{Header: s.header, WatchId: id, Canceled: true})
}

// forget removes a watch. REQUIRES: hub.mu is held.
func (s *session) forget(w *watch) {
	s.hub.leave(w)
	if w.numbered {
		delete(s.watches, w.id)
	}
	delete(s.byLine, w.up)
	delete(s.behind, w)
}

// goOn takes a watch out of its feed and has it served privately, once the client has taken what waits for it.
// REQUIRES: hub.mu is held.
func (s *session) goOn(w *watch) {
	s.hub.leave(w)
	s.behind[w] = struct{}{}
	s.late.Store(true)
	if s.queue.low() { // looked at last: whoever empties the queue from here on sees that the watch is late
		s.resume()
	}
}

// catchUp is called when the client has taken most of what waited.
func (s *session) catchUp() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.resume()
}

// resume has the watches that are behind served privately. REQUIRES: hub.mu is held.
func (s *session) resume() {
	s.late.Store(false)
	if s.gone {
		return
	}
	for w := range s.behind {
		delete(s.behind, w)
		s.private(w, w.next)
	}
}

// receive implements user.
func (s *session) receive(l *line, r *etcdserverpb.WatchResponse) {
	s.queue.room()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if l.closed || s.gone {
		return
	}
	s.header = r.Header
	switch {
	case r.Created:
		if w, _ := l.created().(*watch); w != nil {
			s.created(w, r)
		}
	case r.WatchId < 0:
		l.answer(r)
	default:
		if w := s.byLine[r.WatchId]; w != nil {
			s.event(w, r)
		}
	}
}

// created tells the client of a watch that upstream has made, or not. REQUIRES: hub.mu is held.
func (s *session) created(w *watch, r *etcdserverpb.WatchResponse) {
	out := &etcdserverpb.WatchResponse{Header: r.Header, Created: true}
	if r.Canceled {
		if w.told {
			s.fail(s.again(status.Error(codes.Unavailable, r.CancelReason)))
			return
		}
		s.forget(w)
		out.Canceled, out.CancelReason, out.CompactRevision, out.WatchId = true, r.CancelReason, r.CompactRevision, unnumbered
		s.queue.push(out)
		return
	}
	now := r.GetHeader().GetRevision()
	if w.told { // it has left a feed, and goes on
		if w.next > now {
			s.hub.settle(w, now)
		}
		return
	}
	s.number(w)
	w.told, w.next, out.WatchId = true, w.request.StartRevision, w.id
	if w.next <= 0 {
		w.next = now + 1
		if g := s.hub.groups[w.key]; g != nil && g.feed != nil && g.feed.ready && g.feed.at > now && !w.request.Fragment {
			// The feed is ahead of the member that was asked: the watch begins where the feed is.
			w.next = g.feed.at + 1
			out.Header = proto.CloneOf(r.Header)
			out.Header.Revision = g.feed.at
			now = g.feed.at
		}
	}
	s.queue.push(out)
	if w.next > now {
		s.hub.settle(w, now)
	}
}

// event passes on what upstream tells a private watch. REQUIRES: hub.mu is held.
func (s *session) event(w *watch, r *etcdserverpb.WatchResponse) {
	r.WatchId = w.id
	if r.Canceled {
		s.forget(w)
		s.queue.push(r)
		return
	}
	s.queue.push(r)
	if n := len(r.Events); n > 0 {
		w.next = max(w.next, r.Events[n-1].Kv.ModRevision+1)
	} else {
		w.next = max(w.next, r.GetHeader().GetRevision()+1)
	}
	if w.group == nil || w.group.feed != nil {
		s.hub.settle(w, r.GetHeader().GetRevision())
	}
}

// tell passes on what a feed tells: what the watch has not got, if anything. REQUIRES: hub.mu is held.
func (w *watch) tell(r *etcdserverpb.WatchResponse) {
	s := w.session
	s.header = r.Header
	out := &etcdserverpb.WatchResponse{Header: r.Header, WatchId: w.id}
	if len(r.Events) == 0 {
		now := r.GetHeader().GetRevision()
		if !w.request.ProgressNotify || now < w.next-1 {
			w.next = max(w.next, now+1)
			return
		}
		s.queue.push(out)
		w.next = now + 1
		return
	}
	i := 0
	for i < len(r.Events) && r.Events[i].Kv.ModRevision < w.next {
		i++
	}
	if out.Events = r.Events[i:]; len(out.Events) == 0 {
		return
	}
	if s.queue.full(out) {
		s.goOn(w) // the rest is told when the client has taken what waits
		return
	}
	s.queue.push(out)
	w.next = out.Events[len(out.Events)-1].Kv.ModRevision + 1
}

// ended implements user: what the session stands on has ended, and it ends with the same reason.
func (s *session) ended(_ *line, err error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.fail(s.again(err))
}

// again makes the reason one for which clients try again, if they have watches: the token that the stream began with may have been
// forgotten since, and the client has a newer one, or hears by itself what is wrong. REQUIRES: hub.mu is held.
func (s *session) again(err error) error {
	for _, w := range s.watches {
		if w.told {
			return status.Error(codes.Unavailable, status.Convert(err).Message())
		}
	}
	return err
}
