package watch

import "math"

// entry is one place in a queue: a message, or a watcher whose pending events are merged when its turn comes.
type entry struct {
	m *Message
	w *watcher
}

// queue is a first-in, first-out queue.
type queue struct {
	entries  []entry
	head     int
	messages int        // entries that are messages
	created  int        // of these, those that tell that a watcher was created
	marks    []*Message // and those that are progress marks for the whole stream
	later    []entry    // watchers that stand right behind the first mark, since what they have left is later
}

func (q *queue) empty() bool { return q.head == len(q.entries) }

func (q *queue) push(e entry) {
	q.entries = append(q.entries, e)
	if e.m != nil {
		q.messages++
	}
	if e.announces() {
		q.created++
	}
	if e.m != nil && e.m.mark() {
		q.marks = append(q.marks, e.m)
	}
}

// bound is the revision of the first progress mark for the whole stream: no later event comes before it.
func (q *queue) bound() int64 {
	if len(q.marks) == 0 {
		return math.MaxInt64
	}
	return q.marks[0].Revision
}

// isFollowed tells whether watchers stand right behind a progress mark.
func (q *queue) isFollowed(mark *Message) bool { return len(q.later) > 0 && mark == q.marks[0] }

// announces tells whether the entry is the message that a watcher was created.
func (e entry) announces() bool { return e.m != nil && e.m.Created }

// last returns the message at the end, nil if it is none.
func (q *queue) last() *Message {
	if q.empty() {
		return nil
	}
	return q.entries[len(q.entries)-1].m
}

func (q *queue) peek() entry { return q.entries[q.head] }

func (q *queue) pop() {
	if q.entries[q.head].m != nil {
		q.messages--
	}
	if q.entries[q.head].announces() {
		q.created--
	}
	if len(q.marks) > 0 && q.entries[q.head].m == q.marks[0] {
		q.marks = q.marks[1:]
		if len(q.later) > 0 {
			q.entries, q.head, q.later = append(q.later, q.entries[q.head+1:]...), 0, nil
			return
		}
	}
	q.entries[q.head] = entry{}
	q.head++
	switch {
	case q.head < len(q.entries):
		if q.head >= 1024 && q.head*2 >= len(q.entries) {
			n := copy(q.entries, q.entries[q.head:])
			clear(q.entries[n:])
			q.entries, q.head = q.entries[:n], 0
		}
	case cap(q.entries) > 4096:
		*q = queue{} // and no message is left
	default:
		q.entries, q.head = q.entries[:0], 0
	}
}

// deliverMax is how many watchers of a stream get their events in one turn of its lock: whoever is in Next waits that long, some microseconds.
const deliverMax = 64

// deliver queues what watchers of the stream that are in step get, and wakes the stream once. REQUIRES: the hub's lock.
func (s *Stream) deliver(run []stage) {
	s.mu.Lock()
	room := int64(s.hub.o.TotalBytes) - s.hub.held.Load()
	queued := s.queued
	for i := range run {
		s.deliverTo(&run[i], room-int64(s.queued-queued))
	}
	s.hub.held.Add(int64(s.queued - queued))
	s.mu.Unlock()
	wake(s.wake)
}

// deliverTo queues what a watcher in step gets, revision by revision as far as the bounds allow; at the first that
// does not fit the watcher falls behind. An empty queue takes any revision, if all streams together have room for it. The caller tells the
// hub what is queued more. REQUIRES: the locks of hub and stream.
func (s *Stream) deliverTo(st *stage, room int64) {
	w := st.w
	fits, sum := 0, 0
	for fits < len(st.events) {
		n, bytes := wholeRevision(w, st.events[fits:])
		if s.queued+sum > 0 && s.queued+sum+bytes > s.hub.o.QueueBytes+s.chunkBytes || int64(sum+bytes) > room {
			st.cut = st.events[fits].rev
			break
		}
		sum += bytes
		fits += n
	}
	if cut := st.cut; cut > 0 {
		// What came before the cut in its own revision is left out too, or the revision would be split.
		for fits > 0 && st.events[fits-1].rev == cut {
			fits--
			sum -= w.cost(st.events[fits])
		}
	}
	s.queued += sum
	s.hold(w, st.events[:fits], inReady)
	if st.cut > 0 {
		s.fallBehind(w, st.cut)
	}
}

// wholeRevision returns how many events the first revision of events has, and their cost.
func wholeRevision(w *watcher, events []*encoded) (n, bytes int) {
	for n < len(events) && events[n].rev == events[0].rev {
		bytes += w.cost(events[n])
		n++
	}
	return n, bytes
}

// hold appends events to a watcher's pending ones and queues it, unless it is queued. Their bytes are counted by the caller,
// who wakes the stream if it is not in its own Next. REQUIRES: s.mu.
func (s *Stream) hold(w *watcher, events []*encoded, in place) {
	if len(events) == 0 {
		return
	}
	if w.pending == nil {
		w.pending = s.spare.take()
	}
	w.pending = append(w.pending, events...)
	s.pendingN += len(events)
	if w.queued == nowhere {
		w.queued = in
		if in == inReady {
			s.ready.push(entry{w: w})
		} else {
			s.chunk.push(entry{w: w})
		}
	}
}

// charge counts n more bytes that are queued. REQUIRES: s.mu.
func (s *Stream) charge(n int) {
	s.queued += n
	s.hub.held.Add(int64(n))
}

// launch moves n bytes of what is queued to those that the caller of Next has until it calls again. REQUIRES: s.mu, and that it has none.
func (s *Stream) launch(n int) {
	s.queued -= n
	s.flying = n
}

// land forgets the bytes that the caller of Next has had. REQUIRES: s.mu.
func (s *Stream) land() {
	if s.flying > 0 {
		s.hub.held.Add(int64(-s.flying))
		s.flying = 0
	}
}

// drop forgets all pending events of w.
func (s *Stream) drop(w *watcher) {
	bytes := 0
	for _, e := range w.pending {
		bytes += w.cost(e)
	}
	s.charge(-bytes)
	s.unlist(w, len(w.pending))
}

// unlist takes the first n pending events of w out of its list.
func (s *Stream) unlist(w *watcher, n int) {
	s.pendingN -= n
	if s.pendingN == 0 {
		s.chunkBytes = 0
	}
	if n == len(w.pending) {
		s.spare.keep(w.pending)
		w.pending = nil
		return
	}
	clear(w.pending[:n])
	w.pending = w.pending[n:]
}

// fromQueue takes the next message from q; nil means that what stood there has gone. REQUIRES: s.mu and that q is not
// empty. While messages wait, a watcher stays in front until its pending events were taken, so that a progress mark
// behind it comes after them; otherwise the next watcher has its turn. What is later than the mark goes right behind it.
func (s *Stream) fromQueue(q *queue) *Message {
	e := q.peek()
	if e.m != nil {
		q.pop()
		if s.overtaken(e.m) {
			return nil
		}
		return e.m
	}
	var m *Message
	bound := q.bound()
	if e.w.covered(bound) {
		m = s.merge(e.w, bound)
		m.History = q == &s.chunk
	}
	switch {
	case len(e.w.pending) == 0:
		e.w.queued = nowhere
		q.pop()
	case !e.w.covered(bound):
		q.pop()
		q.later = append(q.later, e)
	case q.messages == 0:
		q.pop()
		q.push(e)
	}
	return m
}

// covered tells whether the next pending event of w is at or below the revision of a progress mark.
func (w *watcher) covered(mark int64) bool { return len(w.pending) > 0 && w.pending[0].rev <= mark }

// overtaken tells whether m is a progress mark of a watcher that has fallen behind since it was queued: history that was read
// then may have come before it, and its header would go back.
func (s *Stream) overtaken(m *Message) bool {
	if m.WatchID == refusedID || m.Created || m.Canceled {
		return false
	}
	w := s.watchers[m.WatchID]
	return w == nil || w.next > m.Revision+1
}

// merge takes as many whole revisions of w up to bound as one response may have, at least one. If the response is to be cut into
// fragments, all but the first go to s.parts. REQUIRES: there is one.
func (s *Stream) merge(w *watcher, bound int64) *Message {
	prev := w.want&wantPrev != 0
	n, size := 0, 0
	for revisions := 0; n < len(w.pending) && w.pending[n].rev <= bound && revisions < mergedMax; revisions++ {
		events, bytes := wholeRevision(w, w.pending[n:])
		if n > 0 && size+bytes > mergeFactor*s.hub.o.ResponseBytes {
			break
		}
		n, size = n+events, size+bytes
	}
	s.launch(size)
	m := s.spare.message(n)
	m.WatchID, m.Revision = w.id, w.pending[n-1].rev
	if n == len(w.pending) {
		// All below next was given out, even if the last events below it were not for this watcher.
		m.Revision = max(m.Revision, min(w.next-1, bound))
	}
	first := m
	for _, e := range w.pending[:n] {
		b := e.of(prev)
		if w.want&wantFragment != 0 && m.Size > 0 && m.Size+len(b) > s.hub.o.ResponseBytes {
			m.Fragment = true
			m = &Message{WatchID: w.id, Revision: m.Revision}
			s.parts = append(s.parts, m)
		}
		m.add(b)
	}
	s.unlist(w, n)
	w.told = true
	s.hub.events.Add(uint64(n))
	return first
}

// A response of several revisions has at most mergedMax of them, as with etcd: clients that take 4 MiB, gRPC's default, live
// with that as long as values are small. It has at most mergeFactor times Options.ResponseBytes.
const (
	mergedMax   = 1000
	mergeFactor = 4
)
