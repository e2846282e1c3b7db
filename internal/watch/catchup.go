package watch

import (
	"context"
	"math"
)

// ringEvents bounds the events of the ring that are looked at while the hub's lock is held once; chunkHitsMax bounds them times
// the watchers that want them.
const ringEvents = 4096

// reading is what a stream knows of its watchers that are behind. It belongs to the goroutine in Next, which reads their
// revisions once for all of them: what it needs is the index, so that a change finds its watchers.
type reading struct {
	index   index
	list    []*watcher
	staging staging
	chunk   chunk
	held    int64 // bytes of the chunk that the hub counts; guarded by the stream's lock
	// history tells that the ring was of no use, for a version before could not be read, so the next
	// chunk must come from history.
	history bool
}

// catchUp does a step for those who are behind: it begins a chunk, or goes on with it, and brings them into step if that was
// all. It holds the hub's lock only to look at the newest revisions.
func (s *Stream) catchUp(ctx context.Context) error {
	if s.reading.chunk.phase == idle && !s.beginChunk() {
		return nil
	}
	done, err := s.stepChunk(ctx)
	if err != nil {
		s.reading.staging.reset()
		s.releaseChunk()
		return err
	}
	if done {
		s.endChunk()
	}
	return nil
}

// beginChunk begins a chunk of history, unless nobody is behind or what they need is in the ring.
func (s *Stream) beginChunk() bool {
	lowest := s.enroll()
	if lowest == math.MaxInt64 {
		return false
	}
	h, r := s.hub, &s.reading
	h.mu.Lock()
	defer h.mu.Unlock()
	h.distribute()
	if lowest >= h.ring.first() && lowest > h.o.Compacted() && !r.history {
		s.fromRing(lowest)
		return false
	}
	r.history = false
	r.chunk.begin(lowest, h.ring.next-1)
	return true
}

// endChunk queues the chunk that was staged.
func (s *Stream) endChunk() {
	h, c := s.hub, &s.reading.chunk
	if c.phase == idle { // some were canceled instead
		s.releaseChunk()
		return
	}
	from, upto, to := c.from, c.upto, c.to
	h.mu.Lock()
	defer h.mu.Unlock()
	s.reach(upto)
	if upto == to && upto >= from {
		h.distribute()
		if upto+1 >= h.ring.first() {
			s.fromRing(upto + 1)
			s.releaseChunk()
			return
		}
	}
	s.settle(false)
	s.releaseChunk()
}

// releaseChunk ends the chunk under way. What is queued of it is counted by now.
func (s *Stream) releaseChunk() {
	s.reading.chunk.recycle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setHeld(0)
}

// holdChunk counts the chunk under way with what all streams hold.
func (s *Stream) holdChunk() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.setHeld(int64(s.reading.chunk.cost()))
	}
}

// setHeld counts the chunk under way as n bytes. REQUIRES: s.mu.
func (s *Stream) setHeld(n int64) {
	h, r := s.hub, &s.reading
	switch {
	case r.held == 0 && n > 0:
		h.readers.Add(1)
	case r.held > 0 && n == 0:
		h.readers.Add(-1)
	}
	h.held.Add(n - r.held)
	r.held = n
}

// recordsMax is how many changes the chunk may have: the fewer, the less room all streams together have, and the more of them read.
func (s *Stream) recordsMax() int {
	const part, each = 8, 512 // a chunk may take about an eighth of the room
	room := (s.hub.o.TotalBytes - int(s.hub.held.Load())) / (part * each)
	share := max(chunkRecordsMax/max(1, int(s.hub.readers.Load())), chunkRecordsShared)
	return max(min(s.records, room, share), chunkRecordsMin)
}

// enroll takes in who fell behind and forgets who has gone. It returns the lowest revision that one of them needs.
func (s *Stream) enroll() (lowest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.reading
	s.takeLost()
	lowest = math.MaxInt64
	kept := r.list[:0]
	for _, w := range r.list {
		if w.state != behind {
			r.index.remove(w)
			continue
		}
		kept = append(kept, w)
		lowest = min(lowest, w.next)
	}
	clear(r.list[len(kept):])
	r.list = kept
	for _, w := range s.arrivals {
		if w.state != behind {
			continue
		}
		r.index.add(w)
		r.list = append(r.list, w)
		lowest = min(lowest, w.next)
	}
	s.arrivals = nil
	if s.behindAt = lowest; lowest == math.MaxInt64 {
		s.behindAt = 0
	}
	if len(r.list) == 0 {
		s.forget() // of its memory nothing is needed until the next one falls behind
	}
	return lowest
}

// fromRing stages what the ring holds from the revision from on, and brings all into step if it was the rest: the
// watchers enter the hub's index under the lock under which the ring ends there. REQUIRES: the hub's lock, that the
// ring holds from, and that nobody behind needs less.
func (s *Stream) fromRing(from int64) {
	r := &s.reading
	revisions := s.hub.ring.from(from)
	upto, seen, hits := from-1, 0, 0
	most := ringEvents
	if s.hub.full(0) {
		most = 1
	}
	for _, rev := range revisions {
		if seen >= most || hits >= chunkHitsMax {
			break
		}
		for i := range rev.events {
			hits += s.hub.match(&r.index, &r.staging, &rev.events[i])
		}
		upto, seen = rev.main, seen+len(rev.events)
	}
	s.hub.closeView()
	s.reach(upto)
	s.settle(upto >= s.hub.ring.next-1)
}

// reach says that everything at or below upto is staged. Who was canceled gets nothing of it.
func (s *Stream) reach(upto int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.reading.list {
		if w.state == behind && w.next <= upto {
			w.next = upto + 1
			delete(s.future, w)
		}
	}
}

// settle queues what was staged. If that is all there is, those who are still watching come into step. REQUIRES: the hub's
// lock.
func (s *Stream) settle(all bool) {
	r := &s.reading
	s.mu.Lock()
	defer s.mu.Unlock()
	all = all && s.lost == 0
	s.chunkBytes = 0
	for i := range r.staging.list {
		if st := &r.staging.list[i]; st.cut > 0 {
			r.history, all = true, false
			for n := len(st.events); n > 0 && st.events[n-1].rev == st.cut; n-- {
				st.events = st.events[:n-1]
			}
			st.w.next = st.cut
		}
	}
	to := inChunk
	if all {
		to = inReady // so that progress marks come after it
	}
	for i := range r.staging.list {
		st := &r.staging.list[i]
		if st.w.state != behind {
			continue
		}
		for _, e := range st.events {
			s.chunkBytes += st.w.cost(e)
		}
		s.hold(st.w, st.events, to)
	}
	s.charge(s.chunkBytes)
	r.staging.reset()
	if all {
		s.join()
	}
}

// join brings the watchers that were behind into step. REQUIRES: the locks of hub and stream.
func (s *Stream) join() {
	r := &s.reading
	for _, w := range r.list {
		r.index.remove(w)
		if w.state == behind {
			w.state = inStep
			s.behindN--
			s.hub.index.add(w)
		}
	}
	s.forget()
}

// forget drops what the stream knows of those behind. REQUIRES: s.mu.
func (s *Stream) forget() {
	s.setHeld(0)
	s.reading.chunk.recycle()
	s.reading = reading{}
}

// cancelCompacted ends those who need a revision below the compact revision rev.
func (s *Stream) cancelCompacted(rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.reading.list {
		if w.state == behind && w.next < rev {
			s.tellCompacted(w, rev)
		}
	}
}
