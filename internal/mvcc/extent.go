package mvcc

import (
	"errors"

	"github.com/ashlar-kv/ashlar/internal/invariant"
)

// correctedMax is the most changes that an extent is corrected by. Each of them is looked up in history, and its version in data.
const correctedMax = 16 << 10

// correctedStep is after how many changes it is looked whether anybody still waits for them.
const correctedStep = 256

// extent is what a whole range has at a revision.
type extent struct {
	rev    int64
	keys   int64
	length int // of all its key-values, as Measure is told it
}

// wantsAll tells whether all that a range has is given out, or measured, as it is.
func (o *RangeOptions) wantsAll() bool {
	return o.AllKeys() && !o.KeysOnly && !o.NoLarge && len(o.End) > 0
}

// recall completes a measured range by what is remembered of all of it; ok tells whether there was something. The cursor stays where it is.
func (q *query) recall() (ok bool, err error) {
	v := q.src.apart()
	if v == nil || !q.o.wantsAll() {
		return false, nil
	}
	e, ok, err := v.extent(q.o.Key, q.o.End, q.rev, q.o.Measure)
	if err != nil || !ok {
		return false, err
	}
	if invariant.Enabled {
		if err := e.check(v, q.o.Key, q.o.End); err != nil {
			return false, err
		}
	}
	q.untold += e.length - q.length
	q.length, q.count, q.given = e.length, e.keys, e.keys
	return true, nil
}

// remember keeps what a range that was measured has. What is known of a later revision stays: it is the nearer to the next one that is asked for.
func (q *query) remember() {
	v := q.src.apart()
	if v == nil || !q.o.wantsAll() {
		return
	}
	of := span{string(q.o.Key), string(q.o.End)}
	known := &v.snap.store.extents
	if e, ok := known.get(of); !ok || e.rev < q.rev {
		known.put(of, extent{q.rev, q.count, q.length})
	}
}

// extent returns what [key, end) has at rev, if that was measured at rev, or so little has changed since it was that history tells it sooner
// than another walk would.
//
// A wrong length is a broken answer, so these must hold:
//
//  1. What is remembered was read at a revision that was published, by a view of this store. A store whose state is replaced ends, and its
//     memory with it.
//  2. The iterator shows every change from there to rev. A compaction to C removes nothing but versions at or below C, with their history
//     records, and C is published before: what it has removed from this iterator was removed before the iterator was opened, so it is at or
//     below v.compact, which was read after that. An extent below v.compact is not used; one at it or above has only changes behind it that
//     are above, which are all there, superseded or not. What a compaction beside this view removes, the view does not see.
//  3. A history record has the whole length of the version before it, wherever that lies, and 0 where there was none. So the lengths of what
//     the changes have written, minus the lengths that they name, are what the range has grown by: those of a version in between cancel
//     out, however many a key had.
//
// A revision before the one remembered is walked over: it is rare. The error of tell, which is told of nothing now and then, ends it.
func (v *View) extent(key, end []byte, rev int64, tell func(length int) error) (e extent, ok bool, err error) {
	e, ok = v.snap.store.extents.get(span{string(key), string(end)})
	if !ok || e.rev < v.compact || e.rev > rev {
		return extent{}, false, nil
	}
	if e.rev == rev {
		return e, true, nil
	}
	most := min(correctedMax, int64(float64(e.keys)*v.snap.now.runs.sizes.corrected))
	if rev-e.rev > most { // each revision has a change
		return extent{}, false, nil
	}
	return v.corrected(e, key, end, rev, most, tell)
}

// corrected returns what [key, end) has at rev, by the changes since it had e; ok is false when these are more than most.
func (v *View) corrected(e extent, key, end []byte, rev, most int64, tell func(length int) error) (_ extent, ok bool, err error) {
	versions, err := v.twin()
	if err != nil {
		return extent{}, false, err
	}
	h, err := v.snap.walkHistory(Revision{Main: e.rev + 1}, rev)
	if err != nil {
		return extent{}, false, errors.Join(err, versions.endTwin())
	}
	for ok = true; err == nil && h.next(); most-- {
		if most == 0 {
			ok = false
			break
		}
		if most%correctedStep == 0 {
			if err = tell(0); err != nil { // who asked may be gone
				break
			}
		}
		if inRange(h.key, key, end) {
			err = e.change(h, versions)
		}
	}
	e.rev = rev
	return e, ok, errors.Join(err, h.close(), versions.endTwin())
}

// change takes in one change of a key of the range.
func (e *extent) change(h *historyWalk, versions *View) error {
	if !h.prev.IsZero() {
		e.keys--
		e.length -= bytesSize(h.prevSize)
	}
	if h.kind == EventDelete {
		return nil
	}
	r, found, err := versions.snap.at(h.key, h.rev)
	if err == nil && !found {
		err = noVersion(h.rev)
	}
	e.keys++
	e.length += bytesSize(r.size())
	return err
}

// check compares what is told of a range without a walk with a walk over it, in builds that check invariants.
func (e extent) check(v *View, key, end []byte) error {
	twin, err := v.twin()
	if err != nil {
		return err
	}
	all := RangeOptions{Key: key, End: end, Measure: func(int) error { return nil }}
	q := query{o: all, rev: e.rev, src: twin, measuring: true}
	if err := errors.Join(q.run(), twin.endTwin()); err != nil {
		return err
	}
	invariant.Check(e.keys == q.count && e.length == q.length, "[%q, %q) at %d has %d keys of %d bytes, and is said to have %d of %d",
		key, end, e.rev, q.count, q.length, e.keys, e.length)
	return nil
}
