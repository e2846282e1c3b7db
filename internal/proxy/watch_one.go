package proxy

import (
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

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
	asked    int64 // questions of that line before upstream was asked for it
	creating int   // times that upstream was asked for it and has not answered yet
	open     bool  // it goes on at whatever upstream begins with, for want of a revision that is known to exist
	from     int64 // everything below was told before it went on by itself
	group    *group
	feed     *feed
	ending   bool // the client has cancelled it, and upstream is to say that it has ended
}

// private has a watch served by the session's own line, from a revision on. REQUIRES: hub.mu is held.
func (s *session) private(w *watch, from int64) {
	if s.line == nil {
		s.line = s.hub.openLine(s.who, s)
	}
	r := s.hub.space.watch(w.request)
	r.StartRevision, r.ProgressNotify = from, true // a watch that gets nothing shall come into step, too
	w.up, w.asked = s.line.create(r, w), s.line.questions
	w.creating++
	s.byLine[w.up] = w
}

// covered tells whether the answer to a question of the line says something of a private watch: upstream had made it when that was asked.
func (w *watch) covered(question int64) bool { return question > w.asked && w.creating == 0 }

// goOn takes a watch out of its feed and has it served privately, once the client has taken what waits for it: from where the
// feed is, as progress may have told more than events, and what is before that may be compacted. REQUIRES: hub.mu is held.
func (s *session) goOn(w *watch) {
	w.next = max(w.next, w.feed.at+1)
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
		w.from, w.open = w.next, w.next > s.header.GetRevision()
		if w.open {
			s.private(w, 0)
		} else {
			s.private(w, w.next)
		}
	}
	if s.askLater {
		s.ask()
	}
}

// resumed is called when upstream serves a watch that had left a feed. REQUIRES: hub.mu is held.
func (s *session) resumed(w *watch, now int64) {
	if w.open && !w.ending && now != w.next-1 {
		w.open = false
		delete(s.byLine, w.up)
		s.line.drop(w.up)
		s.private(w, startAfter(w.next-1, now))
		return
	}
	if w.next > now {
		s.hub.settle(w)
	}
}

// startAfter returns the revision at which a watcher that was told everything up to a revision begins at a member whose newest is
// now. It is never above both, as members answer no questions for progress while a watcher is to begin in the future: at a member
// that is behind, the watcher gets a revision that was told, once more.
func startAfter(told, now int64) int64 {
	if now > told {
		return told + 1
	}
	return told
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
	if w.told {
		s.resumed(w, now)
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
		s.hub.settle(w)
	}
}

// event passes on what upstream tells a private watch. REQUIRES: hub.mu is held.
func (s *session) event(w *watch, r *etcdserverpb.WatchResponse) {
	r.WatchId = w.id
	if r.Canceled {
		if r.CompactRevision == 0 {
			s.forget(w)
		} else { // upstream knows it until the client cancels it, and so does the session
			s.hub.leave(w)
		}
		s.queue.push(r)
		return
	}
	if len(r.Events) > 0 {
		if r.Events = since(r.Events, w.from); len(r.Events) == 0 {
			return
		}
	} else if r.GetHeader().GetRevision() < w.from-1 {
		return
	}
	if len(r.Events) > 0 || w.request.ProgressNotify {
		s.queue.push(r)
	}
	if n := len(r.Events); n > 0 {
		w.next = max(w.next, r.Events[n-1].Kv.ModRevision+1)
	} else {
		w.next = max(w.next, r.GetHeader().GetRevision()+1)
	}
	s.join(w)
}

// tell passes on what a feed tells: what the watch has not got, if anything. REQUIRES: hub.mu is held.
func (w *watch) tell(r *etcdserverpb.WatchResponse) {
	s := w.session
	s.saw(r.Header)
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
	if out.Events = since(r.Events, w.next); len(out.Events) == 0 {
		return
	}
	if s.queue.full(out) {
		s.goOn(w) // the rest is told when the client has taken what waits
		return
	}
	s.queue.push(out)
	w.next = out.Events[len(out.Events)-1].Kv.ModRevision + 1
}

// since returns the events from a revision on.
func since(events []*mvccpb.Event, revision int64) []*mvccpb.Event {
	for len(events) > 0 && events[0].Kv.ModRevision < revision {
		events = events[1:]
	}
	return events
}
