package proxy

import (
	"slices"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// ask is a client's question how far its watches are. Its watches are served by up to two lines, and each of them answers for
// those that it serves.
type ask struct {
	session *session
	left    int                          // lines that have not answered
	header  *etcdserverpb.ResponseHeader // the answer so far: the lowest revision
	void    bool                         // a watch has gone from one line to another meanwhile: ask again
	instead bool                         // of another one
	again   bool                         // the client has asked again meanwhile
}

// askedOf is an ask of a line, which a question was sent for. A mark is made when the member takes a question, so one for an earlier
// question may tell less than what the client knew when it asked.
type askedOf struct {
	*ask
	question int64
	passed   bool // an answer has come that may be to an earlier one: if it was not, none comes to this. Or it was not asked yet
}

// ask puts the question to the lines that serve the session's watches, in place of one that is not answered yet: members do not answer
// each of them. But one that stands in place of another is kept, so that who asks over and over is answered: what is asked meanwhile is
// asked after it. REQUIRES: hub.mu is held.
func (s *session) ask() {
	old := s.asking
	for _, l := range s.lines() {
		here := func(a askedOf) bool { return a.ask == old }
		if old == nil || !slices.ContainsFunc(l.asks, here) {
			continue
		}
		if old.instead {
			l.question()
		} else {
			l.asks = slices.DeleteFunc(l.asks, here)
		}
	}
	if old != nil && old.instead {
		old.again = true
		return
	}
	a := &ask{session: s, instead: old != nil}
	s.asking, s.askLater = a, false
	var lines []*line
	for _, w := range s.watches {
		if w.feed != nil { // all feeds of the session are on one line
			lines = append(lines, w.feed.channel.line)
			break
		}
	}
	if s.line == nil && len(lines) == 0 {
		s.line = s.hub.openLine(s.who, s)
	}
	if s.line != nil {
		lines = append(lines, s.line)
	}
	a.left = len(lines)
	for _, l := range lines {
		n := l.question()
		l.asks = append(l.asks, askedOf{ask: a, question: n, passed: n > l.questions})
	}
}

// insists implements user: a watch that goes on reads history that the client knows. While others do, members do not answer.
func (s *session) insists() bool {
	for _, w := range s.byLine {
		if w.from > 0 {
			return true
		}
	}
	return false
}

// inStep is called when the session's line has answered a question: it has told everything up to a revision to all watches that were
// there when this was asked. A member of etcd may answer after it has told of watches that were made later, and read history still.
// REQUIRES: hub.mu is held.
func (s *session) inStep(question, revision int64) {
	for _, w := range s.byLine {
		if w.told && w.covered(question) {
			w.next = max(w.next, revision+1)
			s.join(w)
		}
	}
}

// goesOn tells whether the answer to a question says nothing of one of the session's watches, which is made anew upstream since, and whose
// client knows it: what it is told then may be from before. REQUIRES: hub.mu is held.
func (s *session) goesOn(question int64) bool {
	for _, w := range s.byLine {
		if w.told && !w.covered(question) {
			return true
		}
	}
	return false
}

// join lets a private watch become shared if it can. REQUIRES: hub.mu is held, the watch is private and created.
func (s *session) join(w *watch) {
	if w.group == nil || w.group.feed != nil {
		s.hub.settle(w)
	}
}

// voidAsks is called when a watch goes from one line to another. REQUIRES: hub.mu is held.
func (s *session) voidAsks() {
	for _, l := range s.lines() {
		for _, a := range l.asks {
			if a.session == s {
				a.void = true
			}
		}
	}
}

// lines returns the lines that may have been asked for the session. REQUIRES: hub.mu is held.
func (s *session) lines() []*line {
	var out []*line
	if s.line != nil {
		out = append(out, s.line)
	}
	if c := s.hub.channels[s.who]; c != nil {
		out = append(out, c.line)
	}
	return out
}

// answer is called when upstream has told everything up to the revision of r to all watchers of the line that were there when the
// question was asked. It answers what was asked up to that. The answer was late if questions before it seem to have none: the member answers
// now, so that as many answers as there are such are fetched at once. REQUIRES: hub.mu is held.
func (l *line) answer(r *etcdserverpb.WatchResponse, to int64, late bool) {
	var answered []*ask
	l.asks = slices.DeleteFunc(l.asks, func(a askedOf) bool {
		if a.question <= to {
			answered = append(answered, a.ask)
		}
		return a.question <= to
	})
	for i := range l.asks {
		l.asks[i].passed = true
	}
	switch {
	case len(l.asks) == 0:
	case late:
		l.question()
	default:
		poke(l.wake) // to ask again, should nothing more come
	}
	for _, a := range answered {
		if a.header == nil || r.GetHeader().GetRevision() < a.header.GetRevision() {
			a.header = r.Header
		}
		if a.left--; a.left == 0 {
			a.settle()
		}
	}
}

// settle tells the client, or asks anew: later, if nobody serves one of its watches at the moment. REQUIRES: hub.mu is held.
func (a *ask) settle() {
	s := a.session
	s.asking = nil
	switch {
	case s.gone:
	case len(s.behind) > 0:
		s.askLater = true
	case a.void:
		s.ask()
	default:
		s.queue.push(&etcdserverpb.WatchResponse{Header: a.header, WatchId: unnumbered})
		if a.again {
			s.ask()
		}
	}
}

// abandon is for questions to a line that answers no more. REQUIRES: hub.mu is held, and nobody takes the line for theirs.
func (l *line) abandon() {
	asks := l.asks
	l.asks = nil
	for _, a := range asks {
		a.void = true
		if a.left--; a.left == 0 {
			a.settle()
		}
	}
}
