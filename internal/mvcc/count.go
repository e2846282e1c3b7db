package mvcc

import (
	"bytes"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Kinds of count changes.
const (
	countCreate byte = 1
	countDelete byte = 2
)

// countByRuns returns the number of live keys in [key, end) at rev: whole runs from the list, which is at the
// published revision, the two ends by looking, and for an older revision what was created and deleted since.
func (s *snapshot) countByRuns(key, end []byte, rev int64) (int64, error) {
	if emptyRange(key, end) {
		return 0, nil
	}
	runs := s.now.runs
	if bytes.Equal(key, fromKeyOn) {
		key = nil // no key is empty, so this range is all of the first run too
	}
	from, to := runs.find(key), runs.pastEnd()
	if !bytes.Equal(end, fromKeyOn) {
		to = runs.find(end)
	}
	whole := from
	if !bytes.Equal(key, runs.at(from).first) {
		whole = runs.after(from)
	}
	n := runs.rank(to) - runs.rank(whole)
	if from == to || n == 0 {
		return s.count(key, end, rev)
	}
	if whole != from {
		part, err := s.count(key, runs.at(whole).first, s.now.revision)
		if err != nil {
			return 0, err
		}
		n += part
	}
	if to != runs.pastEnd() {
		part, err := s.countTail(runs.at(to).first, end)
		if err != nil {
			return 0, err
		}
		n += part
	}
	if rev == s.now.revision {
		return n, nil
	}
	since, err := s.createdSince(key, end, rev)
	return n - since, err
}

// countTail returns the number of live keys in [first, end) at the published revision, where first begins a run. Pages of one range have
// this end in common, so it is remembered as what is left of a range.
func (s *snapshot) countTail(first, end []byte) (int64, error) {
	k := pageEnd{span{string(first), string(end)}, s.now.revision}
	if n, ok := s.store.pages.get(k); ok {
		return n, nil
	}
	n, err := s.count(first, end, s.now.revision)
	if err == nil {
		s.store.pages.put(k, n)
	}
	return n, err
}

// createdSince returns creates minus deletes of keys in [key, end) above rev, up to the published revision. Updates
// leave no trace in that space: a million of them cost nothing here.
func (s *snapshot) createdSince(key, end []byte, rev int64) (n int64, err error) {
	lower := storage.AppendRevKey(nil, storage.SpaceCounts, rev+1, 0)
	upper := storage.AppendRevKey(nil, storage.SpaceCounts, s.now.revision+1, 0)
	it, err := s.clone(lower, upper)
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		switch {
		case len(v) == 0 || v[0] != countCreate && v[0] != countDelete:
			err = fmt.Errorf("%w: count change %x", storage.ErrCorrupt, v)
		case !inRange(v[1:], key, end):
		case v[0] == countCreate:
			n++
		default:
			n--
		}
	}
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, fmt.Errorf("reading count changes: %w", err)
	}
	return n, nil
}

// pageEnd names what is left of a range after a page at a revision: it begins at key.
type pageEnd struct {
	span
	rev int64
}

// pageCache remembers how many keys are left after a page, for whoever reads on from there at the same revision, as
// Kubernetes does.
type pageCache = memory[pageEnd, int64]
