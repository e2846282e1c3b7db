package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const reasonDuplicate = "mvcc: duplicate watch ID provided on the WatchStream"

// unnumbered is the id in answers about no watch of the client.
const unnumbered = -1

// session is one stream of watches of a client. hub.mu guards its fields.
type session struct {
	hub      *hub
	who      identity
	queue    *queue
	failed   chan error // holds the first reason for which the stream must end
	watches  map[int64]*watch
	nextID   int64
	line     *line               // for private watches; nil while there are none
	byLine   map[int64]*watch    // private watches by their id upstream
	behind   map[*watch]struct{} // watches that have left a feed, until the client has taken what waits
	late     atomic.Bool         // there are such
	gone     bool
	asking   *ask                         // the question that is not answered yet
	askLater bool                         // a question waits for the watches that are behind
	header   *etcdserverpb.ResponseHeader // the newest one
}

func newSession(h *hub, who identity) *session {
	return &session{hub: h, who: who, queue: newQueue(), failed: make(chan error, 1),
		watches: map[int64]*watch{}, byLine: map[int64]*watch{}, behind: map[*watch]struct{}{}}
}

// Watch implements etcdserverpb.WatchServer.
func (h *hub) Watch(stream etcdserverpb.Watch_WatchServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	s := newSession(h, identityOf(ctx))
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
		if s.gone { // what it asked for last would be served for ever
			s.hub.mu.Unlock()
			return ctx.Err()
		}
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
	s.voidAsks() // what other lines answer says nothing of it
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

// leaveLine ends the part of the session's line in a watch. REQUIRES: hub.mu is held.
func (s *session) leaveLine(w *watch) {
	if w.up == 0 {
		return
	}
	delete(s.byLine, w.up)
	s.line.drop(w.up)
	w.up = 0
	s.closeIdleLine()
}

// closeIdleLine closes the session's line with its last watch: a member answers no questions where there is none.
// REQUIRES: hub.mu is held.
func (s *session) closeIdleLine() {
	if l := s.line; l != nil && len(s.byLine) == 0 && len(l.creates) == 0 {
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
		s.hub.leave(w)        // or a feed would take it, and nobody would hear that
		delete(s.watches, id) // the client may use the number again, as at a member
		s.line.drop(w.up)
		return
	}
	s.forget(w)
	s.queue.push(&etcdserverpb.WatchResponse{Header: s.header, WatchId: id, Canceled: true})
}

// forget removes a watch. REQUIRES: hub.mu is held.
func (s *session) forget(w *watch) {
	s.hub.leave(w)
	if s.watches[w.id] == w {
		delete(s.watches, w.id)
	}
	delete(s.byLine, w.up)
	delete(s.behind, w)
	s.closeIdleLine()
}

// saw keeps the newest header; that of a watch which a compaction has ended has no revision. REQUIRES: hub.mu is held.
func (s *session) saw(h *etcdserverpb.ResponseHeader) {
	if h.GetRevision() >= s.header.GetRevision() {
		s.header = h
	}
}

// receive implements user.
func (s *session) receive(l *line, r *etcdserverpb.WatchResponse) {
	begin := s.hub.clock.Now()
	waited := s.queue.room()
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if l.closed || s.gone {
		return
	}
	if waited {
		l.stoodStill(s.hub.clock.Now().Sub(begin))
	}
	s.saw(r.Header)
	switch {
	case r.Created:
		if w, _ := l.created().(*watch); w != nil {
			w.creating--
			s.created(w, r)
		}
	case r.WatchId < 0:
		to, late := l.answered()
		if s.goesOn(to) {
			s.voidAsks()
		}
		l.answer(r, to, late)
		s.inStep(to, r.GetHeader().GetRevision())
	default:
		if w := s.byLine[r.WatchId]; w != nil {
			s.event(w, r)
		}
	}
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
