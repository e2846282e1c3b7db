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
	// history tells that the ring was of no use, for a version before could not be read, so the next
	// chunk must come from history.
	history bool
}

// catchUp reads the next chunk for those who are behind and brings them into step if that was all. It holds the hub's
// lock only to look at the newest revisions.
func (s *Stream) catchUp(ctx context.Context) error {
	lowest := s.enroll()
	if lowest == math.MaxInt64 {
		return nil
	}
	h, r := s.hub, &s.reading
	h.mu.Lock()
	h.distribute()
	to := h.ring.next - 1
	if lowest >= h.ring.first() && lowest > h.o.Compacted() && !r.history {
		s.fromRing(lowest)
		h.mu.Unlock()
		return nil
	}
	h.mu.Unlock()
	r.history = false
	upto, err := s.readChunk(ctx, lowest, to)
	if err != nil || upto < lowest {
		r.staging.reset()
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.reach(upto)
	if upto == to {
		h.distribute()
		if upto+1 >= h.ring.first() {
			s.fromRing(upto + 1)
			return nil
		}
	}
	s.settle(false)
	return nil
}

// enroll takes in who fell behind and forgets who has gone. It returns the lowest revision that one of them needs.
func (s *Stream) enroll() (lowest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.reading
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
		s.reading = reading{} // of its memory nothing is needed until the next one falls behind
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
	for _, rev := range revisions {
		if seen >= ringEvents || hits >= chunkHitsMax {
			break
		}
		for _, e := range rev.events {
			hits += s.hub.match(&r.index, &r.staging, e)
		}
		upto, seen = rev.main, seen+len(rev.events)
	}
	s.hub.closeView()
	s.reach(upto)
	s.settle(upto == s.hub.ring.next-1)
}

// reach says that everything at or below upto is staged.
func (s *Stream) reach(upto int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.reading.list {
		w.next = max(w.next, upto+1)
	}
}

// settle queues what was staged. If that is all there is, those who are still watching come into step. REQUIRES: the hub's
// lock.
func (s *Stream) settle(all bool) {
	r := &s.reading
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.queued += s.chunkBytes
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
