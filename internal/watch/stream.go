package watch

import (
	"bytes"
	"context"
	"sync"
)

// The reasons of refusals, in etcd's words.
const (
	reasonDuplicate = "mvcc: duplicate watch ID provided on the WatchStream"
	reasonEmpty     = "mvcc: watcher range is empty"
	reasonNegative  = "etcdserver: mvcc: required revision has been compacted"
)

// refusedID is the id in messages that belong to no watcher.
const refusedID = -1

// Stream is a number of watchers whose messages go to one client. All methods may be called from any goroutine, but
// Next from one at a time. An idle watcher costs about 200 bytes beside its key and range.
type Stream struct {
	hub  *Hub
	wake chan struct{} // there may be something for Next

	// mu guards what follows. It comes after the hub's lock.
	mu       sync.Mutex
	closed   bool
	watchers map[int64]*watcher
	nextID   int64
	notify   map[*watcher]struct{} // with wantNotify
	future   map[*watcher]struct{} // created with a start above the current revision, as far as that is not known to have passed
	floor    int64                 // the greatest revision that a created message has told
	marked   bool                  // in the hub's list of owed marks

	ready      queue // messages, and watchers in step that have pending events
	chunk      queue // watchers that have a chunk of history
	parts      []*Message
	spare      spare
	chunkTurn  bool // Next takes from the chunk next
	queued     int  // bytes of all pending events
	chunkBytes int  // bytes that the last chunk added
	pendingN   int
	flying     int   // bytes of events that the caller of Next has
	lost       int64 // when not 0, those in step are in no index and have to read history from this revision on
	behindN    int
	behindAt   int64 // a revision at or below what one that is behind needs next; 0 when none is
	compactedN int
	arrivals   []*watcher // fell behind, not yet in reading

	// reading belongs to the goroutine in Next.
	reading reading
	records int // how many changes the next chunk reads
	rest    func(ctx context.Context, bytes int)
}

// Create adds a watcher. What becomes of it comes through Next: a message that it was created, or one that it was
// refused because of a negative Start, an empty range or an id in use; one that it was created and one that what it needs
// is compacted. An empty Key stands for the one byte 00, as with etcd.
func (s *Stream) Create(spec Spec) {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	current := h.o.Revision()
	if spec.Start > 0 && spec.Start <= current {
		h.distribute() // so that the watcher does not start with a prev_kv that etcd leaves out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if reason := s.check(spec); reason != "" {
		s.refuse(reason, current)
		return
	}
	w := s.add(spec, current)
	s.floor = max(s.floor, current)
	s.ready.push(entry{m: &Message{WatchID: w.id, Revision: current, Created: true}})
	switch c := h.o.Compacted(); {
	case w.next < c:
		s.tellCompacted(w, c)
	case s.lost == 0 && w.next >= h.ring.next:
		h.index.add(w)
	default:
		w.state = behind
		s.lag(w.next)
		s.arrivals = append(s.arrivals, w)
	}
	wake(s.wake)
}

// check returns why a watcher is refused.
func (s *Stream) check(spec Spec) (reason string) {
	if spec.Start < 0 {
		return reasonNegative
	}
	if len(spec.End) > 0 && string(spec.End) != fromKeyOn && bytes.Compare(spec.Key, spec.End) >= 0 {
		return reasonEmpty
	}
	if _, taken := s.watchers[spec.ID]; taken && spec.ID != 0 {
		return reasonDuplicate
	}
	return ""
}

// add makes the watcher and gives it its id. REQUIRES: s.mu.
func (s *Stream) add(spec Spec, current int64) *watcher {
	w := &watcher{stream: s, id: spec.ID, key: string(spec.Key), next: spec.Start, want: spec.wants()}
	if w.key == "" {
		w.key = fromKeyOn
	}
	if len(spec.End) > 0 {
		w.span = newSpan(w.key, string(spec.End))
		w.key = ""
	}
	if w.next == 0 {
		w.next = current + 1
	} else if w.next > current {
		if s.future == nil {
			s.future = make(map[*watcher]struct{})
		}
		s.future[w] = struct{}{}
	}
	if w.id == 0 {
		for w.id = s.nextID; s.watchers[w.id] != nil; {
			w.id++
		}
		s.nextID = w.id + 1
	}
	if w.want&wantNotify != 0 {
		if s.notify == nil {
			s.notify = make(map[*watcher]struct{})
		}
		s.notify[w] = struct{}{}
	}
	s.watchers[w.id] = w
	s.hub.watchers.Add(1)
	return w
}

// wants translates the flags.
func (spec *Spec) wants() (bits want) {
	set := func(on bool, bit want) {
		if on {
			bits |= bit
		}
	}
	set(spec.PrevKV, wantPrev)
	set(spec.ProgressNotify, wantNotify)
	set(spec.Fragment, wantFragment)
	set(spec.NoPut, refusePut)
	set(spec.NoDelete, refuseDelete)
	return bits
}

// Refuse queues the refusal of a watcher: created and canceled at once, with id -1.
func (s *Stream) Refuse(reason string) {
	current := s.hub.o.Revision()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.refuse(reason, current)
	}
}

func (s *Stream) refuse(reason string, current int64) {
	s.ready.push(entry{m: &Message{WatchID: refusedID, Revision: current, Created: true, Canceled: true, Reason: reason}})
	wake(s.wake)
}

// Cancel ends a watcher and queues the message of it, after which it gets no event any more. That of an unknown id is
// silent.
func (s *Stream) Cancel(id int64) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.watchers[id]
	if w == nil {
		return
	}
	s.remove(w)
	s.ready.push(entry{m: &Message{WatchID: id, Revision: s.hub.o.Revision(), Canceled: true}})
	wake(s.wake)
}

// remove forgets a watcher. REQUIRES: the locks of hub and stream.
func (s *Stream) remove(w *watcher) {
	switch w.state {
	case inStep:
		if s.lost == 0 {
			s.hub.index.remove(w)
		}
	case behind:
		s.behindN--
	case compacted:
		s.compactedN--
	}
	w.state = gone
	delete(s.watchers, w.id)
	delete(s.notify, w)
	delete(s.future, w)
	if w.queued != inReady {
		// What is in the other queue goes unnoticed. Here a progress mark may stand behind it.
		s.drop(w)
	}
	s.hub.watchers.Add(-1)
}

// fallBehind makes a watcher in step read history from rev on. REQUIRES: the locks of hub and stream.
func (s *Stream) fallBehind(w *watcher, rev int64) {
	s.hub.index.remove(w)
	w.state, w.next = behind, rev
	delete(s.future, w)
	s.lag(rev)
	s.arrivals = append(s.arrivals, w)
	wake(s.wake)
}

// lag counts one more watcher that needs the history from rev on. REQUIRES: s.mu.
func (s *Stream) lag(rev int64) {
	if s.behindN++; s.behindAt == 0 || rev < s.behindAt {
		s.behindAt = rev
	}
}

// lose makes all that are in step read history from rev on. They are in the hub's index no more. REQUIRES: the hub's lock.
func (s *Stream) lose(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == 0 && len(s.watchers) > 0 {
		s.lost = rev
		wake(s.wake)
	}
}

// takeLost takes note of what lose has told. REQUIRES: s.mu. That is enough here: those watchers are in no index.
func (s *Stream) takeLost() {
	if s.lost == 0 {
		return
	}
	for _, w := range s.watchers {
		if w.state == inStep {
			w.state, w.next = behind, max(s.lost, w.next)
			s.lag(w.next)
			s.arrivals = append(s.arrivals, w)
		}
	}
	s.lost = 0
}

// isBehind tells whether some watcher has to read history. REQUIRES: s.mu.
func (s *Stream) isBehind() bool { return s.behindN > 0 || s.lost != 0 }

// tellCompacted ends a watcher whose revision is compacted; its id stays taken. REQUIRES: s.mu, and that it is in no index.
func (s *Stream) tellCompacted(w *watcher, rev int64) {
	if w.state == behind {
		s.behindN--
	}
	w.state = compacted
	s.compactedN++
	s.ready.push(entry{m: &Message{WatchID: w.id, Canceled: true, CompactRevision: rev}})
	wake(s.wake)
}

// Close ends the stream and its watchers. Next returns ErrClosed from then on.
func (s *Stream) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.closeLocked()
}

// closeLocked REQUIRES: the hub's lock.
func (s *Stream) closeLocked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, w := range s.watchers {
		s.remove(w)
	}
	s.charge(-s.queued)
	s.land()
	s.setHeld(0)
	s.closed, s.pendingN = true, 0
	s.ready, s.chunk, s.parts, s.arrivals = queue{}, queue{}, nil, nil
	delete(s.hub.streams, s)
	wake(s.wake)
}
