package raftlog

import (
	"errors"
	"fmt"
	"sort"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// Term returns the term of the entry at index i, or of the mark. It wraps ErrCompacted below the mark and ErrUnavailable
// above the last entry. It does not touch the disk for entries in the memory tail.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.RLock()
	mark, last, e := l.state.mark, l.state.last, l.tail.get(i)
	l.mu.RUnlock()
	switch {
	case i == mark.Index:
		return mark.Term, nil
	case i < mark.Index:
		return 0, fmt.Errorf("%w: term of %d, the mark is %d", ErrCompacted, i, mark.Index)
	case i > last:
		return 0, fmt.Errorf("%w: term of %d, the last is %d", ErrUnavailable, i, last)
	case e != nil:
		return e.GetTerm(), nil
	}
	entries, err := l.read(i, i+1, 0)
	if err != nil {
		return 0, err
	}
	return entries[0].GetTerm(), nil
}

// Entries returns the entries [lo, hi), or as many from lo on as fit into maxBytes in raft's encoding, but at least
// one. It wraps ErrCompacted when lo is at or below the mark and ErrUnavailable when hi - 1 is above the
// last entry.
func (l *Log) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	l.mu.RLock()
	mark, last := l.state.mark.Index, l.state.last
	held, inTail := l.tail.first()
	var newest []*raftpb.Entry
	if inTail && lo < hi && hi <= last+1 && hi > held {
		from := l.tail.from(max(lo, held))
		newest = limited(from[:hi-max(lo, held)], maxBytes)
	}
	l.mu.RUnlock()
	switch {
	case lo <= mark:
		return nil, fmt.Errorf("%w: entries from %d, the mark is %d", ErrCompacted, lo, mark)
	case hi > last+1:
		return nil, fmt.Errorf("%w: entries up to %d, the last is %d", ErrUnavailable, hi-1, last)
	case lo >= hi:
		return nil, nil
	case inTail && lo >= held:
		return newest, nil
	}
	to := hi
	if inTail {
		to = min(hi, held)
	}
	older, err := l.read(lo, to, maxBytes)
	if err != nil || uint64(len(older)) < to-lo {
		return older, err
	}
	left := maxBytes
	for _, e := range older {
		left -= min(left, encodedBytes(e))
	}
	for _, e := range newest {
		size := encodedBytes(e)
		if size > left {
			break
		}
		left -= size
		older = append(older, e)
	}
	return older, nil
}

// BytesFrom returns about how much of the segments lies behind where the entry at index begins: what it takes to keep the log from there on,
// besides the rest of that segment. Below the first entry it is all.
func (l *Log) BytesFrom(index uint64) (bytes uint64) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if index > l.state.last || len(l.index.points) == 0 {
		return 0
	}
	return l.bytesFromLocked(&l.index.points[max(0, l.index.after(index)-1)])
}

// Within returns the lowest index from which on the log may be kept in about so many bytes (BytesFrom): that of the last entry when it alone
// takes more, and that of the first, or of the one that will be, when all of them fit.
func (l *Log) Within(bytes uint64) uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	points := l.index.points
	switch n := sort.Search(len(points), func(i int) bool { return l.bytesFromLocked(&points[i]) <= bytes }); n {
	case 0:
		return l.state.mark.Index + 1
	case len(points):
		return l.state.last
	default:
		return points[n].index
	}
}

// WorthEmptying says whether the segments have an eighth of what one may have, and so would take long enough to read at a start to be
// removed by CutAll once none of their entries is needed.
func (l *Log) WorthEmptying() bool { return l.Metrics().DiskBytes >= uint64(l.segmentBytes)/8 }

// bytesFromLocked REQUIRES: mu is held.
func (l *Log) bytesFromLocked(p *point) (bytes uint64) {
	for _, s := range l.segments {
		if s.seq >= p.segment.seq {
			bytes += uint64(s.length.Load())
		}
	}
	return bytes - min(bytes, uint64(p.at))
}

// limited returns a copy of the entries that fit, at least one.
func limited(entries []*raftpb.Entry, maxBytes uint64) []*raftpb.Entry {
	n, size := 0, uint64(0)
	for n < len(entries) {
		size += encodedBytes(entries[n])
		if n > 0 && size > maxBytes {
			break
		}
		n++
	}
	return append(make([]*raftpb.Entry, 0, n), entries[:n]...)
}

// read returns entries [lo, hi) from the disk as far as they fit into maxBytes, at least one.
func (l *Log) read(lo, hi, maxBytes uint64) (entries []*raftpb.Entry, err error) {
	size := uint64(0)
	err = l.visit(lo, hi, maxBytes, func(e *raftpb.Entry) bool {
		size += encodedBytes(e)
		if size > maxBytes && len(entries) > 0 {
			return false
		}
		entries = append(entries, e)
		return true
	})
	return entries, err
}

// visit calls f with entries [lo, hi) on the disk, one after another, until it returns false or much more than maxBytes were read. No
// lock is held while it reads, and what is cut off or overwritten meanwhile is still there for it.
func (l *Log) visit(lo, hi, maxBytes uint64, f func(*raftpb.Entry) bool) error {
	if l.old != nil {
		return l.old.visit(lo, hi, f)
	}
	l.mu.RLock()
	if mark, last := l.state.mark.Index, l.state.last; lo <= mark || hi > last+1 { // since the caller has looked
		l.mu.RUnlock()
		if lo <= mark {
			return fmt.Errorf("%w: entry %d, the mark is %d", ErrCompacted, lo, mark)
		}
		return fmt.Errorf("%w: entry %d, the last is %d", ErrUnavailable, hi-1, last)
	}
	points, end := l.index.part(lo, hi, maxBytes)
	l.mu.RUnlock()
	var err error
	more := true
	for i, p := range points {
		to := end
		if i+1 < len(points) {
			to = points[i+1].index
		}
		if more && err == nil {
			more, err = visitFrom(p, lo, to, f)
		}
		if cerr := p.segment.release(); err == nil && cerr != nil {
			err = cerr
		}
	}
	if errors.Is(err, storage.ErrCorrupt) || errors.Is(err, errRead) {
		return l.failure.fail(err)
	}
	return err
}

// visitFrom calls f with those of the entries from that of p up to, not including, to that are at or above lo.
func visitFrom(p point, lo, to uint64, f func(*raftpb.Entry) bool) (more bool, err error) {
	in, done := entryReader(p.segment, p.at)
	defer done()
	end := p.end
	for i := p.index; i < to; i++ {
		if in.off == end {
			if end, err = nextEntries(&in, i); err != nil {
				return false, err
			}
		}
		at := in.off
		if i < lo {
			h, seed, _, err := in.entryHead(i, end, 0)
			if err == nil {
				err = in.pass(h, seed)
			}
			if err != nil {
				return false, explainEntry(p.segment, i, at, err)
			}
			continue
		}
		e, err := in.entry(i, end)
		if err != nil {
			return false, explainEntry(p.segment, i, at, err)
		}
		if !f(e) {
			return false, nil
		}
	}
	return true, nil
}

// nextEntries goes on to the next record that has entries, of which index is the first, and returns where it ends.
func nextEntries(in *reader, index uint64) (end int64, err error) {
	for {
		at := in.off
		h, err := in.header()
		if err != nil {
			return 0, explainEntry(in.s, index, at, err)
		}
		end = at + headerBytes + int64(h.length)
		rec, _, err := in.fields(h)
		if err != nil {
			return 0, explainEntry(in.s, index, at, err)
		}
		if rec.count > 0 {
			if rec.first != index {
				return 0, storage.Corruptf(in.s.path, "entry %d is missing: the record at offset %d has entry %d", index, at, rec.first)
			}
			return end, nil
		}
		in.skip(end - in.off)
	}
}

func explainEntry(s *segment, index uint64, at int64, err error) error {
	if errors.Is(err, errRecord) {
		return storage.Corruptf(s.path, "entry %d, at offset %d, is damaged", index, at)
	}
	return explain(s, at, err)
}

// Verify reads the whole log and checks that every entry from the first to the last is there and readable. It must not run beside
// Append, Install or Cut.
func (l *Log) Verify() error {
	now := l.now()
	next, end := now.mark.Index+1, now.last+1
	for next < end {
		from := next
		err := l.visit(next, end, verifyBytes, func(e *raftpb.Entry) bool {
			next++
			return e.GetIndex() == next-1
		})
		if err != nil {
			return err
		}
		if next == from {
			return storage.Corruptf(l.dir, "entry %d is missing between the first and the last one", next)
		}
	}
	return nil
}

// verifyBytes is about how much of the log Verify looks at in one go.
const verifyBytes = 64 << 20
