package mvcc

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// View is the store as it was when the view was opened, read at one of its revisions. It belongs to one goroutine
// and holds resources of the database until Close.
type View struct {
	snap    snapshot
	rev     int64
	compact int64
	walked  func() // ends what WalksFar has begun, nil before
}

// View opens a view that reads at rev, or at the current revision when rev is 0 or less. Returns ErrFutureRevision or
// ErrCompacted when rev cannot be read, ErrRetired when the store was replaced.
func (s *Store) View(rev int64) (*View, error) {
	for {
		p := s.now.Load()
		if rev > p.revision {
			return nil, fmt.Errorf("revision %d, current %d: %w", rev, p.revision, ErrFutureRevision)
		}
		snap, err := borrowSnapshot(s, p)
		if err != nil {
			return nil, err
		}
		// What compaction to this revision deletes was deleted after the iterator was opened, or is
		// not needed at or above it.
		compact := s.now.Load().compact
		v := &View{snap: snap, rev: rev, compact: compact}
		if rev <= 0 {
			v.rev = p.revision
		}
		if v.rev >= compact {
			return v, nil
		}
		if err := snap.close(); err != nil {
			return nil, fmt.Errorf("closing an iterator: %w", err)
		}
		if rev > 0 {
			return nil, fmt.Errorf("revision %d, compacted to %d: %w", rev, compact, ErrCompacted)
		}
		// The current revision was compacted away meanwhile; so there is a newer one.
	}
}

// Close releases what the view holds. Nothing that it gave out may be used afterwards.
func (v *View) Close() error {
	if v.walked != nil {
		v.walked()
	}
	if err := v.snap.giveBack(); err != nil {
		return fmt.Errorf("closing a view: %w", err)
	}
	return nil
}

// WalksFar says that ranges of the view give out very much, perhaps twice: until Close, and a while longer, the database has more memory for
// what they read.
func (v *View) WalksFar() {
	if v.walked == nil {
		v.walked = v.snap.store.db.WidenCache()
	}
}

// Revision returns the revision that the view reads at.
func (v *View) Revision() int64 { return v.rev }

// Current returns the store's revision at the time the view was opened, which a response's header carries.
func (v *View) Current() int64 { return v.snap.now.revision }

// SizeInUse is that of the store: all that the view reads at one revision is less.
func (v *View) SizeInUse() int64 { return v.snap.store.SizeInUse() }

// CompactRevision returns the compact revision that binds this view: at and above it all is readable.
func (v *View) CompactRevision() int64 { return v.compact }

// Range implements Reader.
func (v *View) Range(o RangeOptions, emit func(kv KV) error) (RangeResult, error) {
	rev := v.rev
	if o.Rev > 0 {
		rev = o.Rev
	}
	if err := readable(rev, v.Current(), v.compact); err != nil {
		return RangeResult{}, err
	}
	q := query{o: o, rev: rev, src: v, emit: emit, sortBytesMax: MaxSortBytes}
	if err := q.run(); err != nil {
		return RangeResult{}, err
	}
	if q.measuring {
		q.remember()
	}
	return RangeResult{Count: q.count, More: q.more, Rev: v.Current()}, nil
}

// Get implements Reader.
func (v *View) Get(key []byte) (KV, bool, error) {
	r, _, live, err := v.snap.get(key, v.rev)
	if err != nil || !live {
		return KV{}, false, err
	}
	kv, err := v.snap.whole(r, true)
	return kv, err == nil, err
}

// Head implements Reader.
func (v *View) Head(key []byte) (KV, bool, error) {
	r, _, live, err := v.snap.get(key, v.rev)
	if err != nil || !live {
		return KV{}, false, err
	}
	return r.lean(), true, nil
}

// At returns the version of key that the change at rev wrote, if compaction has left it. The KV is valid until the
// view is used again.
func (v *View) At(key []byte, rev Revision) (KV, bool, error) {
	r, found, err := v.snap.at(key, rev)
	if err != nil || !found {
		return KV{}, false, err
	}
	kv, err := v.snap.whole(r, true)
	return kv, err == nil, err
}

// loadVersion is At for a version that must be there.
func (v *View) loadVersion(key []byte, rev Revision) (KV, error) {
	kv, found, err := v.At(key, rev)
	if err == nil && !found {
		err = noVersion(rev)
	}
	return kv, err
}

func noVersion(rev Revision) error {
	return fmt.Errorf("%w: no data for the history record %d/%d", storage.ErrCorrupt, rev.Main, rev.Sub)
}

// ForgetLengths says that a length that Measure was told has turned out to be wrong: what is remembered of any may be, and is no longer used.
func (v *View) ForgetLengths() { v.snap.store.extents.forget() }

func (v *View) get(key []byte, rev int64) (record, bool, error) {
	r, at, live, err := v.snap.get(key, rev)
	if live && rev == v.Current() && !r.isStub() {
		v.snap.store.newest.put(key, KV{r.stored}, at.Main, rev)
	}
	return r, live, err
}

func (v *View) whole(r record, moving bool) (KV, error) { return v.snap.whole(r, moving) }

func (v *View) cursor(key, end []byte, rev int64, backwards bool) (cursor, error) {
	if backwards {
		return v.snap.reverseScan(key, end, rev), nil
	}
	return v.snap.scan(key, end, rev), nil
}

func (v *View) countKeys(key, end []byte, rev int64) (int64, error) {
	return v.snap.countByRuns(key, end, rev)
}

func (v *View) runAfter(key, end []byte) []byte { return v.snap.now.runs.nameAfter(key, end) }

func (v *View) pages() *pageCache { return &v.snap.store.pages }

func (v *View) apart() *View { return v }

// readable checks a revision to read at.
func readable(rev, current, compact int64) error {
	if rev > current {
		return fmt.Errorf("revision %d, current %d: %w", rev, current, ErrFutureRevision)
	}
	if rev < compact {
		return fmt.Errorf("revision %d, compacted to %d: %w", rev, compact, ErrCompacted)
	}
	return nil
}
