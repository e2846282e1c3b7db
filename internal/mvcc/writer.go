package mvcc

import (
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/invariant"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

var errEmptyKey = errors.New("key is empty")

// Writer writes one group of entries: one batch, in which each entry is whole. A store has at most one Writer at a
// time, and one goroutine uses it. Nothing is seen by views before Commit; the Writer itself sees all of it. After
// Commit or Discard only Events and Release may be used. An error of any method but ScheduleCompact means that the state cannot be
// read or written: the group must be discarded and the member stopped.
type Writer struct {
	store *Store
	base  snapshot // opened when first needed
	batch *storage.Batch
	over  overlay
	ahead ahead

	begun       bool
	sub         uint32 // changes of the entry so far
	revision    int64  // after the ended entries
	compact     int64
	compactions []Hash // those scheduled
	written     int64  // see published
	index, term uint64
	dirty       bool // the batch needs the meta record
	events      []Event
}

// NewWriter starts a group. REQUIRES: the Writer before has ended.
func (s *Store) NewWriter() *Writer {
	p := s.now.Load()
	w := &Writer{
		store: s, base: snapshot{store: s, now: p}, batch: s.db.NewBatch(),
		over: s.spare.over, ahead: ahead{expected: s.spare.expected, keys: s.spare.keys}, events: s.spare.events,
		revision: p.revision, compact: p.compact, written: p.written, index: p.index, term: p.term,
	}
	s.spare = spare{versions: s.spare.versions}
	return w
}

// Begin starts an entry. Its changes have the next revision; if it makes none, it takes none.
func (w *Writer) Begin() {
	invariant.Check(!w.begun, "an entry begins before the one before it has ended")
	w.begun, w.sub = true, 0
}

// End ends the entry and returns the revision after it.
func (w *Writer) End() (rev int64, changed bool) {
	invariant.Check(w.begun, "an entry ends that has not begun")
	changed = w.sub > 0
	if changed {
		w.revision++
	}
	w.begun, w.sub = false, 0
	return w.revision, changed
}

// Revision returns the revision that a read sees now: the one after the entries of the group that have ended, and one
// more once the present entry has changed something.
func (w *Writer) Revision() int64 {
	if w.sub > 0 {
		return w.revision + 1
	}
	return w.revision
}

// CompactRevision returns the compact revision, including what the group has scheduled.
func (w *Writer) CompactRevision() int64 { return w.compact }

// Batch returns the group's batch, for records of other packages that belong to the same entries.
func (w *Writer) Batch() *storage.Batch { return w.batch }

// SetApplied says that index and term are those of the group's last entry.
func (w *Writer) SetApplied(index, term uint64) {
	w.index, w.term, w.dirty = index, term, true
}

// Events returns the changes of the group so far, in order. They share encoded bytes with nothing that is changed
// later, and may be kept. The slice may be kept unless Release is called.
func (w *Writer) Events() []Event { return w.events }

// Release gives back the slice of Events, which groups to come use. Copies of what is in it may be kept all the same. REQUIRES: the group
// has ended and the next one has not begun; nobody has the slice.
func (w *Writer) Release() {
	w.store.spare.events = emptied(w.events)
	w.events = nil
}

// versions is where what goes out with events is written.
func (w *Writer) versions() *heap { return &w.store.spare.versions }

// open opens the base, once.
func (w *Writer) open() error {
	if w.base.it != nil {
		return nil
	}
	base, err := openSnapshot(w.store, w.base.now)
	if err != nil {
		return err
	}
	w.base = base
	return nil
}

// head returns the newest version of key: it is not live if there is none. t is its place in the overlay, if it has one.
func (w *Writer) head(key []byte) (r record, at Revision, t *touched, err error) {
	if t = w.over.get(key); t != nil {
		return record{t.newest.raw}, t.newest.rev, t, nil
	}
	if k := w.ahead.find(key); k != nil && k.whole {
		return record{k.raw}, k.head.at, nil, nil
	}
	if err := w.open(); err != nil {
		return record{}, Revision{}, nil, err
	}
	r, at, live, err := w.base.get(key, w.base.now.revision)
	if err != nil || !live {
		return record{}, Revision{}, nil, err
	}
	return r, at, nil, nil
}

// whole implements source. What the group itself has written is no stub.
func (w *Writer) whole(r record, moving bool) (KV, error) {
	if !r.isStub() {
		return KV{r.stored}, nil
	}
	return w.base.whole(r, moving)
}

// Put sets key to value, hanging on lease (0 for none). prev is the live version it replaces, valid until the Writer is
// used again.
func (w *Writer) Put(key, value []byte, lease int64) (prev KV, existed bool, err error) {
	if len(key) == 0 {
		return KV{}, false, errEmptyKey
	}
	w.ahead.comes(key)
	r, at, t, err := w.head(key)
	if err != nil {
		return KV{}, false, err
	}
	old := headOf(r, at)
	if prev, err = w.whole(r, true); err != nil {
		return KV{}, false, err
	}
	if err := w.put(key, value, lease, old, t); err != nil {
		return KV{}, false, err
	}
	return prev, prev.Exists(), nil
}

// PutBlind is Put for those who do not want the version before: of a key that was written lately nothing is read.
func (w *Writer) PutBlind(key, value []byte, lease int64) error {
	if len(key) == 0 {
		return errEmptyKey
	}
	x := w.ahead.comes(key)
	if w.over.get(key) == nil {
		if old, ok := w.newestHead(key, x); ok {
			return w.put(key, value, lease, old, nil)
		}
		if k := w.ahead.find(key); k != nil {
			return w.put(key, value, lease, k.head, nil)
		}
	}
	r, at, t, err := w.head(key)
	if err != nil {
		return err
	}
	return w.put(key, value, lease, headOf(r, at), t)
}

// put writes the version of key that follows old. t is the key's place in the overlay, if it has one.
func (w *Writer) put(key, value []byte, lease int64, old head, t *touched) error {
	f := fields{key: key, create: w.revision + 1, mod: w.revision + 1, version: 1, value: value, lease: lease}
	live := !old.at.IsZero()
	if live {
		f.create, f.version = old.create, old.version+1
	}
	var encoded []byte
	if len(value) >= largeMin {
		encoded = f.encodeLarge()
	} else {
		encoded = f.append(w.versions().alloc(f.size())[:0])
	}
	return w.record(Event{
		Kind: EventPut, Key: KV{encoded}.Key(), raw: encoded, Prev: old.at, prevSize: old.size, Lease: lease, PrevLease: old.lease,
	}, t, live)
}

// DeleteRange deletes the live keys of [key, end), or key alone when end is empty, and gives each to onPrev, if that is
// not nil, in order. The KV is valid until onPrev returns; onPrev must not use the Writer. An error of onPrev is returned
// as it is, before anything was deleted.
func (w *Writer) DeleteRange(key, end []byte, onPrev func(KV) error) (n int64, err error) {
	if len(end) == 0 {
		return w.deleteOne(key, onPrev)
	}
	if emptyRange(key, end) {
		return 0, nil
	}
	victims, err := w.victims(key, end, onPrev)
	if err != nil {
		return 0, err
	}
	for _, v := range victims {
		e := Event{Kind: EventDelete, Key: v.key, Prev: v.at, prevSize: v.size, PrevLease: v.lease}
		if err := w.record(e, w.over.get(v.key), true); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (w *Writer) deleteOne(key []byte, onPrev func(KV) error) (int64, error) {
	r, at, t, err := w.head(key)
	if err != nil || !r.live() {
		return 0, err
	}
	old := headOf(r, at)
	if onPrev != nil {
		prev, err := w.whole(r, true)
		if err != nil {
			return 0, err
		}
		if err := onPrev(prev); err != nil {
			return 0, err
		}
	}
	e := Event{Kind: EventDelete, Key: w.versions().copy(key), Prev: at, prevSize: old.size, PrevLease: old.lease}
	if err := w.record(e, t, true); err != nil {
		return 0, err
	}
	return 1, nil
}

// victim is a key to be deleted, with the revision and the lease of its newest version.
type victim struct {
	key   []byte
	at    Revision
	size  int // of its KeyValue
	lease int64
}

// victims returns the live keys of [key, end); the keys are the Writer's own copies.
func (w *Writer) victims(key, end []byte, onPrev func(KV) error) ([]victim, error) {
	c, err := w.cursor(key, end, w.Revision(), false)
	if err != nil {
		return nil, err
	}
	var out []victim
	for c.next() {
		if onPrev != nil {
			prev, err := w.whole(c.record(), false)
			if err != nil {
				return nil, err
			}
			if err := onPrev(prev); err != nil {
				return nil, err
			}
		}
		f, size := c.record().fields()
		at := Revision{Main: f.mod}
		if t := w.over.get(c.key()); t != nil {
			at = t.newest.rev
		} else if _, main, sub, ok := storage.DecodeDataKey(w.base.it.Key()); ok {
			invariant.Check(main == at.Main, "version %d of %q says revision %d", main, c.key(), at.Main)
			at.Sub = sub
		}
		out = append(out, victim{w.versions().copy(c.key()), at, size, f.lease})
	}
	return out, c.failure()
}

// record writes one change, which e describes but for its revision; its slices are in memory that stays. t is the
// key's place in the overlay; live tells whether there was a live version.
func (w *Writer) record(e Event, t *touched, live bool) error {
	invariant.Check(w.begun, "a change outside of an entry")
	if w.sub == maxSub {
		return fmt.Errorf("more than %d changes in one entry", uint32(maxSub))
	}
	e.Rev = Revision{w.revision + 1, w.sub}
	w.sub++
	w.written += versionBytes(e.Key, len(e.raw))
	if err := writeData(w.batch, e.Key, e.Rev, e.raw); err != nil {
		return err
	}
	if err := writeHistory(w.batch, e.Kind, e.Key, e.Rev, e.Prev, e.prevSize); err != nil {
		return err
	}
	if live == (e.Kind == EventDelete) {
		if err := writeCountChange(w.batch, e.Kind, e.Key, e.Rev); err != nil {
			return err
		}
	}
	if t == nil {
		w.over.add(e.Key, live, version{rev: e.Rev, raw: e.raw})
	} else {
		t.update(e.Rev, e.raw)
	}
	w.events = append(w.events, e)
	return nil
}

// Get implements Reader; it sees the group's writes.
func (w *Writer) Get(key []byte) (KV, bool, error) {
	r, _, _, err := w.head(key)
	if err != nil || !r.live() {
		return KV{}, false, err
	}
	kv, err := w.whole(r, true)
	return kv, err == nil, err
}

// Head implements Reader; it sees the group's writes.
func (w *Writer) Head(key []byte) (KV, bool, error) {
	r, _, _, err := w.head(key)
	if err != nil || !r.live() {
		return KV{}, false, err
	}
	return r.lean(), true, nil
}

// Range implements Reader; it sees the group's writes, those of the present entry too.
func (w *Writer) Range(o RangeOptions, emit func(kv KV) error) (RangeResult, error) {
	current := w.Revision()
	rev := current
	if o.Rev > 0 {
		rev = o.Rev
	}
	if err := readable(rev, current, w.compact); err != nil {
		return RangeResult{}, err
	}
	q := query{o: o, rev: rev, src: w, emit: emit, sortBytesMax: MaxSortBytes}
	if err := q.run(); err != nil {
		return RangeResult{}, err
	}
	return RangeResult{Count: q.count, More: q.more, Rev: current}, nil
}

func (w *Writer) get(key []byte, rev int64) (record, bool, error) {
	if t := w.over.get(key); t != nil {
		if v := t.visible(rev); v != nil {
			return record{v.raw}, v.raw != nil, nil
		}
	}
	if err := w.open(); err != nil {
		return record{}, false, err
	}
	r, _, live, err := w.base.get(key, min(rev, w.base.now.revision))
	return r, live, err
}

func (w *Writer) cursor(key, end []byte, rev int64, backwards bool) (cursor, error) {
	if err := w.open(); err != nil {
		return nil, err
	}
	var base cursor
	if backwards {
		base = w.base.reverseScan(key, end, min(rev, w.base.now.revision))
	} else {
		base = w.base.scan(key, end, min(rev, w.base.now.revision))
	}
	if rev <= w.base.now.revision {
		return base, nil
	}
	over := w.over.in(key, end)
	if len(over) == 0 {
		return base, nil
	}
	return newMergeCursor(base, over, rev, backwards), nil
}

func (w *Writer) countKeys(key, end []byte, rev int64) (int64, error) {
	if err := w.open(); err != nil {
		return 0, err
	}
	if emptyRange(key, end) {
		return 0, nil
	}
	n, err := w.base.countByRuns(key, end, min(rev, w.base.now.revision))
	if err == nil && rev > w.base.now.revision {
		n += w.over.countDifference(key, end, rev)
	}
	return n, err
}

func (w *Writer) runAfter(key, end []byte) []byte { return nil } // what the group writes is in no run yet

// pages is nil: what the group writes may yet be discarded.
func (w *Writer) pages() *pageCache { return nil }

func (w *Writer) apart() *View { return nil }

// ScheduleCompact makes rev the compact revision: with the group, reads below it are refused, and CompactStep
// may delete what they needed. Returns ErrCompacted when rev is not above the compact revision and ErrFutureRevision when it
// is above the current one; nothing is changed then.
func (w *Writer) ScheduleCompact(rev int64) error {
	if rev <= w.compact {
		return fmt.Errorf("compaction to %d, compacted to %d: %w", rev, w.compact, ErrCompacted)
	}
	if rev > w.Revision() {
		return fmt.Errorf("compaction to %d, current %d: %w", rev, w.Revision(), ErrFutureRevision)
	}
	w.compactions = append(w.compactions, Hash{Compact: w.compact, Revision: rev})
	w.compact = rev
	return nil
}
