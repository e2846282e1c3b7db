package watch

// unreadMax is how many messages may wait for a client before progress marks are no longer added for it one by one.
const unreadMax = 1024

// RequestProgress queues a progress mark for all watchers of the stream, with id -1: no event at or below its
// revision comes after it. It is silent, as with etcd, without watchers, and while one of them is behind,
// starts in the future, or was canceled by a compaction and not by the client.
func (s *Stream) RequestProgress() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.distribute()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark()
}

// mark queues the mark. REQUIRES: the locks of hub and stream.
func (s *Stream) mark() {
	if s.closed || len(s.watchers) == 0 || s.isBehind() || s.compactedN > 0 {
		return
	}
	rev := s.hub.Distributed()
	for w := range s.future {
		if w.next > rev {
			return
		}
		delete(s.future, w)
	}
	if rev < s.floor {
		// A watcher was created at a revision that was committed and not yet published: a mark below would take
		// its client back. The hub comes to it in a moment.
		if !s.marked {
			s.marked = true
			s.hub.marks = append(s.hub.marks, s)
		}
		return
	}
	if last := s.ready.last(); s.ready.messages >= unreadMax && last != nil && last.mark() && !s.ready.isFollowed(last) {
		// The client asks and does not read: one answer, and nothing lies behind it.
		last.Revision = rev
		return
	}
	s.ready.push(entry{m: &Message{WatchID: refusedID, Revision: rev}})
	wake(s.wake)
}

// settleMarks queues the marks that were owed. REQUIRES: h.mu.
func (h *Hub) settleMarks() {
	owed := h.marks
	h.marks = nil
	for _, s := range owed {
		s.mu.Lock()
		s.marked = false
		s.mark()
		s.mu.Unlock()
	}
}

// NotifyProgress queues a progress mark for each watcher that asked for them, is in step and got nothing since the
// call before. A client that has not read the marks of earlier calls gets no more; nor does one that was told of a
// creation at a revision that is not published yet, until the next call.
func (s *Stream) NotifyProgress() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready.messages >= unreadMax {
		return
	}
	rev := s.hub.Distributed()
	for w := range s.notify {
		if !w.told && rev >= s.floor && s.upToDate(w, rev) {
			s.ready.push(entry{m: &Message{WatchID: w.id, Revision: rev}})
			wake(s.wake)
		}
		w.told = false
	}
}

// upToDate tells whether w was given every event at or below rev and waits for nothing later.
func (s *Stream) upToDate(w *watcher, rev int64) bool {
	if _, future := s.future[w]; future && w.next > rev {
		return false
	}
	return s.lost == 0 && w.state == inStep && w.next <= rev+1 && len(w.pending) == 0
}
