package watch

// ring holds the newest revisions. The hub's lock guards it.
type ring struct {
	revisions []revision // without gaps; from head on
	head      int
	next      int64 // the revision after the last one
	bytes     int
	bytesMax  int
}

// revision is the changes of one revision.
type revision struct {
	main   int64
	events []event
}

// first returns the oldest revision held, or the one to come if none is.
func (r *ring) first() int64 {
	if r.head == len(r.revisions) {
		return r.next
	}
	return r.revisions[r.head].main
}

// restart empties the ring; next is the revision to come.
func (r *ring) restart(next int64) {
	*r = ring{next: next, bytesMax: r.bytesMax}
}

// add appends the next revision.
func (r *ring) add(rev revision) {
	for i := range rev.events {
		r.bytes += rev.events[i].size()
	}
	r.revisions = append(r.revisions, rev)
	r.next = rev.main + 1
}

// grew takes account of more bytes in an event of the ring.
func (r *ring) grew(bytes int) { r.bytes += bytes }

// evict drops the oldest revisions until the bound holds; while nobody watches it is a sixteenth.
func (r *ring) evict(watched bool) {
	most := r.bytesMax
	if !watched {
		most /= 16
	}
	for r.bytes > most && r.head < len(r.revisions) {
		events := r.revisions[r.head].events
		for i := range events {
			r.bytes -= events[i].size()
		}
		r.revisions[r.head] = revision{}
		r.head++
	}
	if r.head > 64 && r.head*2 > len(r.revisions) {
		n := copy(r.revisions, r.revisions[r.head:])
		clear(r.revisions[n:])
		r.revisions, r.head = r.revisions[:n], 0
	}
}

// from returns the revisions from main on. REQUIRES: main >= first.
func (r *ring) from(main int64) []revision {
	if main >= r.next {
		return nil
	}
	return r.revisions[r.head+int(main-r.first()):]
}

// at returns the change of one sub-revision, nil if the ring does not hold it.
func (r *ring) at(main int64, sub uint32) *event {
	if main < r.first() || main >= r.next {
		return nil
	}
	events := r.from(main)[0].events
	if int64(sub) < int64(len(events)) && events[sub].sub == sub {
		return &events[sub]
	}
	return nil
}
