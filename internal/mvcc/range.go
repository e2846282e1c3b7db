package mvcc

import "bytes"

// source is what a query reads: a View, or a Writer with what its group has written.
type source interface {
	get(key []byte, rev int64) (r record, live bool, err error)
	cursor(key, end []byte, rev int64, backwards bool) (cursor, error)
	// whole returns the version of a record that get or a cursor has given out. With moving a cursor may be lost, and so may r.
	whole(r record, moving bool) (KV, error)
	countKeys(key, end []byte, rev int64) (int64, error)
	// runAfter returns the first key of the run behind that of key, from which on countKeys has only runs and the end of the range to look
	// at; nil when it saves nothing to count from there. It stays valid, and must not be changed.
	runAfter(key, end []byte) []byte
	// pages is the cache that counts may come from, nil where the revisions read are not final.
	pages() *pageCache
	// apart is the view that this is, which several goroutines may read beside each other, nil when it is none.
	apart() *View
}

// query is one call of Range.
type query struct {
	o            RangeOptions
	rev          int64
	src          source
	emit         func(kv KV) error
	sortBytesMax int

	count, given int64
	more         bool
	silent       int    // keys that were walked over without giving one out
	passed       []byte // the first key of the run behind the first one, once the walk has come to it
	before       int64  // count below it
	buf          []byte
	last         []byte // last key given out, once the limit is reached
	measuring    bool   // nothing is given out any more
	length       int    // of what was given out and measured, as Measure is told it
	untold       int    // what Measure was not told yet of it
	untoldKeys   int
}

func (q *query) run() error {
	if err := q.walk(); err != nil || !q.measuring {
		return err
	}
	return q.tell()
}

func (q *query) walk() error {
	switch {
	case len(q.o.End) == 0:
		return q.single()
	case emptyRange(q.o.Key, q.o.End):
		return nil
	case q.o.CountOnly:
		return q.countAll()
	case q.o.Target != SortByKey:
		return q.sorted()
	default:
		return q.stream()
	}
}

func (q *query) single() error {
	r, live, err := q.src.get(q.o.Key, q.rev)
	if err != nil || !live {
		return err
	}
	if q.one(r) {
		return q.give(r, true)
	}
	return nil
}

// one counts the only key, and tells whether it is given out.
func (q *query) one(r record) bool {
	q.count = 1
	return !q.o.CountOnly && q.passes(r)
}

func (q *query) countAll() error {
	if q.o.SkipCount {
		return nil
	}
	var err error
	q.count, err = q.total(q.o.Key, 0)
	return err
}

// stream gives keys out as they come off the cursor, in order or backwards.
func (q *query) stream() error {
	backwards := q.o.Order == SortDescend
	c, err := q.src.cursor(q.o.Key, q.o.End, q.rev, backwards)
	if err != nil {
		return err
	}
	var run []byte
	if !backwards && q.o.Limit > 0 && !q.o.SkipCount {
		run = q.src.runAfter(q.o.Key, q.o.End)
	}
	for c.next() {
		if run != nil && bytes.Compare(c.key(), run) >= 0 {
			q.passed, q.before, run = run, q.count, nil
		}
		if q.o.filtered() && !q.passes(c.record()) {
			q.count++
			if err := q.ended(); err != nil {
				return err
			}
			continue
		}
		if q.full() {
			q.more = true
			return q.countRest(c.key(), backwards)
		}
		q.count++
		began := q.measuring
		if err := q.give(c.record(), false); err != nil {
			return err
		}
		if q.measuring && !began {
			if done, err := q.measureRest(c.key(), backwards); done || err != nil {
				return err
			}
		}
		if q.full() {
			q.last = append(q.last[:0], c.key()...)
		}
	}
	return c.failure()
}

// ended is called for each key that is walked over without giving one out.
func (q *query) ended() error {
	if q.silent++; q.silent%askEvery != 0 || q.o.Ended == nil {
		return nil
	}
	return q.o.Ended()
}

func (q *query) full() bool { return q.o.Limit > 0 && q.given >= q.o.Limit }

func (q *query) passes(r record) bool {
	if !q.o.filtered() {
		return true
	}
	f, _ := r.fields()
	return (q.o.MinMod == 0 || f.mod >= q.o.MinMod) && (q.o.MaxMod == 0 || f.mod <= q.o.MaxMod) &&
		(q.o.MinCreate == 0 || f.create >= q.o.MinCreate) && (q.o.MaxCreate == 0 || f.create <= q.o.MaxCreate)
}

// give gives a version out. moving is as for the source's whole.
func (q *query) give(r record, moving bool) error {
	q.given++
	if q.measuring {
		return q.measure(q.lengthOf(r))
	}
	kv, err := q.wanted(r, moving)
	if err != nil {
		return err
	}
	length := len(kv.raw) // of a whole one: r may be lost
	if q.o.NoLarge {
		length = q.lengthOf(r)
	}
	if err = q.emit(kv); err == ErrMeasure && q.o.Measure != nil {
		q.measuring = true
		return q.measure(length)
	}
	q.length += bytesSize(length)
	return err
}

// wanted returns what is given out of a version.
func (q *query) wanted(r record, moving bool) (KV, error) {
	switch {
	case q.o.KeysOnly:
		return q.withoutValue(r), nil
	case q.o.NoLarge:
		return r.lean(), nil
	default:
		return q.src.whole(r, moving)
	}
}

// withoutValue is what keys alone are given out as, until it is called again.
func (q *query) withoutValue(r record) KV {
	// What is sorted by values is read from the versions in etcd, and these name their leases.
	q.buf = r.appendWithoutValue(q.buf[:0], q.o.Target == SortByValue)
	return KV{q.buf}
}

// countRest completes the count when the limit ended the walk at the key next, which was not given out. The rest is
// counted by runs: etcd walks it.
func (q *query) countRest(next []byte, backwards bool) error {
	if q.o.SkipCount {
		return nil
	}
	next = append(make([]byte, 0, len(next)+1), next...) // counting moves the cursor's iterator
	if backwards {
		rest, err := q.src.countKeys(q.o.Key, append(next, 0), q.rev)
		q.count += rest
		return err
	}
	seen := q.count
	total, err := q.total(next, seen)
	if err != nil {
		return err
	}
	q.count = total
	if p := q.src.pages(); p != nil && !q.o.filtered() {
		p.put(pageEnd{span{string(append(q.last, 0)), string(q.o.End)}, q.rev}, total-seen)
	}
	return nil
}

// total returns how many keys the range holds, of which seen come before the key next: from the cache, when the page
// before left it there.
func (q *query) total(next []byte, seen int64) (int64, error) {
	if p := q.src.pages(); p != nil {
		if n, ok := p.get(pageEnd{span{string(q.o.Key), string(q.o.End)}, q.rev}); ok {
			return n, nil
		}
	}
	if q.passed != nil {
		// Most of a run would be walked over to count from next on.
		next, seen = q.passed, q.before
	}
	rest, err := q.src.countKeys(next, q.o.End, q.rev)
	return seen + rest, err
}
