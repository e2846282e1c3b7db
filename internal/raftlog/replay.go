package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// replayBytes is the buffer for reading whole segments.
const replayBytes = 256 << 10

// replay reads segments from the oldest to the newest and checks all of it (docs/format/log.md).
type replay struct {
	state state
	index index
	begun bool
	place int64  // where the last segment ended
	sum   uint32 // of its last record
}

// newest is what is found at the end of the newest segment.
type newest struct {
	proven int64 // records before it are known to have been synced
	torn   bool  // something follows the last record
	zeros  bool  // nothing but zeros follows it
}

// segment reads s up to where it ended when the next one was born. Of the newest that is not known: place is negative then, and
// s.end is set.
func (r *replay) segment(s *segment, place int64) (n newest, err error) {
	size, err := s.size()
	if err != nil {
		return n, err
	}
	limit := size
	if place >= 0 {
		limit = place
	}
	in := newReader(s, 0, limit, replayBytes)
	for in.off < limit {
		at := in.off
		h, err := r.record(in)
		if errors.Is(err, errRecord) && place < 0 && at > 0 {
			if n.zeros, err = zerosFrom(s, at, size); err != nil {
				return n, err
			}
			if n.torn = !n.zeros; n.torn {
				if err := provenAt(s, at, size); err != nil {
					return n, err
				}
			}
			in.off = at
			break
		}
		if err != nil {
			return n, explain(s, at, err)
		}
		n.proven = max(n.proven, h.witness)
		r.sum = h.sum
		if at == 0 {
			n.proven = in.off
		}
	}
	if in.off == 0 {
		return n, explain(s, 0, errRecord)
	}
	s.end, s.sum, r.place = in.off, r.sum, in.off
	return n, nil
}

// record reads one record and does what it says.
func (r *replay) record(in *reader) (header, error) {
	at := in.off
	h, err := in.header()
	if err != nil {
		return h, err
	}
	rec, sum, err := in.fields(h)
	if err != nil {
		return h, err
	}
	end := at + headerBytes + int64(h.length)
	points, sum, err := r.entries(in, &rec, end, sum)
	if err != nil {
		return h, err
	}
	if in.off != end || sum != h.body {
		return h, errRecord
	}
	// Both checksums are right: what is wrong from here on is no torn record.
	if rec.newer != nil {
		return h, rec.newer
	}
	if (rec.kind == kindBegin) != (at == 0) {
		return h, fmt.Errorf("%s does not belong there", &rec)
	}
	if r.begun && h.chain != r.sum {
		return h, errors.New("the record is not the one that was written after the record before it")
	}
	if at == 0 {
		return h, r.begin(&rec)
	}
	after, err := r.state.after(&rec)
	if err != nil {
		return h, fmt.Errorf("the record is not possible there: %w", err)
	}
	forced := r.index.change(&rec, r.state.last)
	for _, p := range points {
		r.index.add(p, forced && p.index == rec.first)
	}
	r.state = after
	return h, nil
}

// begin compares the first record of a segment with what was read before.
func (r *replay) begin(rec *record) error {
	s, err := stateOf(rec)
	if err != nil {
		return err
	}
	switch {
	case rec.place > math.MaxInt64:
		return errors.New("the segment before cannot be that large")
	case !r.begun:
		r.begun, r.state = true, s
	case s != r.state:
		return fmt.Errorf("the segment begins in a log %s, and the one before ends in a log %s: they are not parts of one log", s, r.state)
	case int64(rec.place) != r.place:
		return fmt.Errorf("the segment before ends at %d and not at %d", r.place, rec.place)
	}
	return nil
}

// entries reads the entries of a record and returns where some of them lie, and the checksum of the body.
func (r *replay) entries(in *reader, rec *record, end int64, sum uint32) (points []point, _ uint32, err error) {
	for i := rec.first; i-rec.first < rec.count; i++ {
		at := in.off
		h, seed, next, err := in.entryHead(i, end, sum)
		if err == nil {
			err = in.pass(h, seed)
		}
		if err != nil {
			return nil, 0, err
		}
		sum = next
		if n := len(points); n == 0 || at-points[n-1].at >= pointBytes {
			points = append(points, point{i, in.s, at, end})
		}
	}
	return points, sum, nil
}

// done checks what has come of all segments, of which the oldest is given.
func (r *replay) done(dir string, oldest *segment) error {
	s := &r.state
	first := s.staged
	if s.initialised {
		first = s.mark.Index + 1
	}
	covered := r.index.covered()
	switch {
	case s.initialised && s.hs.Commit > s.last:
		return storage.Corruptf(dir, "the commit index %d is above the last entry %d", s.hs.Commit, s.last)
	case first > 0 && first <= s.last && (covered == 0 || covered > first):
		return storage.Corruptf(dir, "the entry %d is missing: there is no segment before %s", first, oldest.path)
	}
	return nil
}

// change forgets what the operation removes, and says whether the place of its first entry has to be remembered in any case.
func (x *index) change(rec *record, last uint64) (forced bool) {
	switch {
	case rec.kind == kindInstall || rec.kind == kindStage && rec.count == 0:
		x.dropFrom(0)
		return true
	case rec.kind == kindMark:
		x.dropUpTo(rec.mark.Index, last)
	case rec.count > 0 && rec.first <= last:
		x.dropFrom(rec.first)
		return true
	}
	return false
}

// explain turns what is wrong with a record into corruption.
func explain(s *segment, at int64, err error) error {
	switch {
	case errors.Is(err, errRecord):
		return storage.Corruptf(s.path, "the record at offset %d is damaged", at)
	case errors.Is(err, storage.ErrNewerFormat):
		return fmt.Errorf("%s: %w", s.path, err)
	case errors.Is(err, errRead):
		return err
	}
	return storage.Corruptf(s.path, "at offset %d: %w", at, err)
}

// zerosFrom tells whether there is nothing but zeros in s from at up to size.
func zerosFrom(s *segment, at, size int64) (bool, error) {
	in := newReader(s, at, size, replayBytes)
	for in.off < size {
		b, err := in.peek(len(in.buf))
		if err != nil {
			return false, err
		}
		if len(b) == 0 {
			return true, nil // the file has become shorter
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
		in.skip(int64(len(b)))
	}
	return true, nil
}

// provenAt looks behind a bad record for the header of one that says that it had been synced, which makes it corruption.
func provenAt(s *segment, bad, size int64) error {
	in := newReader(s, bad+1, size, replayBytes)
	for in.off+headerBytes <= size {
		b, err := in.peek(len(in.buf))
		if err != nil {
			return err
		}
		if len(b) < headerBytes {
			return nil // the file has become shorter
		}
		n := len(b) - headerBytes + 1
		for i := range n {
			if h, ok := decodeHeader(b[i:], s.seq, in.off+int64(i)); ok && h.witness > bad {
				return storage.Corruptf(s.path, "the record at offset %d is damaged, and the one at %d says that it had been synced", bad, h.offset)
			}
		}
		in.skip(int64(n))
	}
	return nil
}
