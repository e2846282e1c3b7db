package watch

import "github.com/ashlar-kv/ashlar/internal/mvcc"

// batchEvents is how many events are matched before their watchers get them: under load a watcher's events are
// handed over together.
const batchEvents = 512

// batchHits bounds the same times their watchers: what is staged for many watchers of one key must fit into memory.
const batchHits = 1 << 18

// batch is what a distribution works with.
type batch struct {
	staging staging
	n       int        // events matched
	hits    int        // and times watchers
	lists   []*watcher // memory of index.match
	view    *mvcc.View // opened when a version before is not in the ring
	scratch []byte     // memory of a tombstone's KeyValue
}

// distribute hands on what the inbox holds. REQUIRES: h.mu. The hub's goroutine calls it, and whoever must not be
// ahead of what was published.
func (h *Hub) distribute() {
	events, lostTo := h.in.take()
	if lostTo > 0 {
		h.lose(lostTo)
	}
	for rest := events; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n-1].Rev.Less(rest[n].Rev) && rest[n].Rev.Main == rest[0].Rev.Main {
			n++ // the same one once more, which is ignored, would begin again
		}
		h.take(rest[:n])
		rest = rest[n:]
	}
	h.in.giveBack(events)
	h.flush()
	h.closeView()
	h.settleMarks()
}

// closeView ends the use of the view. Whoever matches must do so before giving up the hub's lock: a later revision needs a
// later view.
func (h *Hub) closeView() {
	if h.batch.view != nil {
		_ = h.batch.view.Close() // it was only read
		h.batch.view = nil
	}
}

// take matches one revision.
func (h *Hub) take(events []mvcc.Event) {
	main := events[0].Rev.Main
	if main < h.ring.next {
		return
	}
	if main > h.ring.next {
		h.lose(main - 1)
	}
	rev := revision{main: main, events: make([]event, len(events))}
	for i := range events {
		e := &events[i]
		rev.events[i] = event{rev: main, kind: e.Kind, sub: e.Rev.Sub, prev: e.Prev, key: e.Key}
		if kv, err := e.Load(); err == nil { // events of a Writer are loaded
			rev.events[i].raw = kv.Raw()
		}
	}
	h.ring.add(rev)
	for i := range rev.events {
		h.batch.hits += h.match(&h.index, &h.batch.staging, &rev.events[i])
	}
	if h.batch.n += len(events); h.batch.n >= batchEvents || h.batch.hits >= batchHits {
		h.flush()
	}
}

// match stages an event of the ring for the watchers of x that want it, and returns how many they are. REQUIRES: h.mu.
func (h *Hub) match(x *index, to *staging, e *event) (hits int) {
	h.batch.lists = x.match(e.key, h.batch.lists[:0])
	for _, w := range h.batch.lists {
		for ; w != nil; w = w.after {
			if !w.wants(e.kind, e.rev) {
				continue
			}
			s := to.of(w)
			if s.cut > 0 {
				continue
			}
			if !h.encode(e, w.want&wantPrev != 0) {
				s.cut = e.rev
				continue
			}
			s.events = append(s.events, e.out)
			hits++
		}
	}
	return hits
}

// flush hands the staged events to their watchers and drops what is too much for the ring.
func (h *Hub) flush() {
	for rest := h.batch.staging.list; len(rest) > 0; {
		s, n := rest[0].w.stream, 1
		for n < len(rest) && n < deliverMax && rest[n].w.stream == s {
			n++
		}
		s.deliver(rest[:n])
		rest = rest[n:]
	}
	h.batch.staging.reset()
	h.batch.n, h.batch.hits = 0, 0
	h.ring.evict(len(h.streams) > 0)
	h.advance()
}

// advance publishes how far the hub has come.
func (h *Hub) advance() {
	if h.distributed.Load() == h.ring.next-1 {
		return
	}
	h.distributed.Store(h.ring.next - 1)
	if h.advanced != nil {
		close(h.advanced)
		h.advanced = nil
	}
}

// lose makes everyone read the revisions up to rev, which the hub did not get to see. It only tells the streams: each walks its
// watchers by itself.
func (h *Hub) lose(rev int64) {
	if rev < h.ring.next {
		return
	}
	h.flush()
	from := h.ring.next
	h.ring.restart(rev + 1)
	h.index = index{}
	for s := range h.streams {
		s.lose(from)
	}
	h.advance()
}

// encode makes sure that e is encoded as wanted; false means that the version before could not be read, which the
// watcher must find out by itself. REQUIRES: h.mu.
func (h *Hub) encode(e *event, prev bool) bool {
	if e.out == nil {
		e.out = &encoded{rev: e.rev}
	}
	out := e.out
	if prev && out.withPrev == nil {
		before, ok := h.before(e)
		if !ok {
			return false
		}
		if len(before) > 0 {
			out.withPrev = h.encodeWith(e, before)
			h.ring.grew(len(out.withPrev))
			return true
		}
	}
	if out.plain == nil {
		out.plain = h.encodeWith(e, nil)
	}
	if prev && out.withPrev == nil {
		out.withPrev = out.plain
		h.ring.grew(len(out.withPrev))
	}
	return true
}

// encodeWith returns the encoding of e with a version before. Key and version of e are part of it then: the ring holds nothing of the writer's memory for it, in
// which the changes of other keys lie beside it.
func (h *Hub) encodeWith(e *event, before []byte) []byte {
	kv := e.raw
	if e.kind == mvcc.EventDelete {
		h.batch.scratch = appendTombstone(h.batch.scratch[:0], e.key, e.rev)
		kv = h.batch.scratch
	}
	h.encoded.Add(1)
	out := appendEvent(make([]byte, 0, eventSize(len(kv), len(before))), e.kind, kv, before)
	upto := len(out) - prevSize(before)
	kv = out[upto-len(kv) : upto : upto]
	e.key = kv[1+uvarintSize(len(e.key)):][:len(e.key):len(e.key)] // the first field of all of them
	if e.kind == mvcc.EventPut {
		e.raw = kv
	}
	return out
}

// before returns the KeyValue that an event's key had at the revision before; nil means none or compacted.
func (h *Hub) before(e *event) (raw []byte, ok bool) {
	prev := e.prev
	if prev.Main == e.rev {
		// A change of what this very revision had made: what counts is the revision before, and a key that was
		// created in this one had nothing before.
		if isCreated(e.kind, e.raw, e.rev) {
			return nil, true
		}
		same := h.ring.from(e.rev)[0].events
		for i := range same {
			if string(same[i].key) == string(e.key) {
				prev = same[i].prev
				break
			}
		}
	}
	if prev.IsZero() {
		return nil, true
	}
	if p := h.ring.at(prev.Main, prev.Sub); p != nil {
		return p.raw, true
	}
	if h.batch.view == nil {
		v, err := h.o.View(0)
		if err != nil {
			return nil, false
		}
		h.batch.view = v
	}
	kv, _, err := h.batch.view.At(e.key, prev)
	return kv.Raw(), err == nil
}

// isCreated tells whether a change is the put that created its key.
func isCreated(kind mvcc.EventKind, raw []byte, rev int64) bool {
	if kind != mvcc.EventPut {
		return false
	}
	kv, err := mvcc.ParseKV(raw)
	return err == nil && kv.CreateRevision() == rev
}
