package mvcc

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// dataLower and dataUpper bound the data space, largeLower and largeUpper that of large values, which comes after it.
var (
	dataLower              = storage.AppendDataPrefix(nil, nil)
	dataUpper              = storage.AppendPlainKey(nil, storage.SpaceData+1)
	largeLower, largeUpper = storage.SpaceBounds(storage.SpaceLarge)
)

// fromKeyOn is the range end that means every key from the first one on.
var fromKeyOn = []byte{0}

// snapshot is an iterator over one state of the database together with what was published then: the common ground of
// View and Writer. The iterator may hold revisions above the published one, never less. One goroutine uses
// it, for one thing at a time: each scan moves the one iterator.
type snapshot struct {
	store *Store
	now   *published
	it    *storage.Iterator
	large values // of the same state

	bounded      bool // the iterator has bounds narrower than those that it was opened with
	keyBuf       []byte
	lower, upper []byte
}

// openSnapshot REQUIRES: p was published before the call.
func openSnapshot(s *Store, p *published) (snapshot, error) {
	if err := s.gate.enter(); err != nil {
		return snapshot{}, err
	}
	return openIterator(s, p)
}

// borrowSnapshot is openSnapshot for views: it may take an iterator that was opened earlier for the same published state, and so
// show what a compaction has deleted since. REQUIRES: p was published before the call.
func borrowSnapshot(s *Store, p *published) (snapshot, error) {
	if err := s.gate.enterAs(1); err != nil {
		return snapshot{}, err
	}
	if it := s.idle.take(p); it != nil {
		return snapshot{store: s, now: p, it: it}, nil
	}
	return openIterator(s, p)
}

// openIterator REQUIRES: the gate is entered; after an error it is left.
func openIterator(s *Store, p *published) (snapshot, error) {
	it, err := s.db.NewIter(&storage.IterOptions{LowerBound: dataLower, UpperBound: largeUpper})
	if err != nil {
		s.gate.leave()
		return snapshot{}, fmt.Errorf("opening an iterator over the keys: %w", err)
	}
	return snapshot{store: s, now: p, it: it}, nil
}

// giveBack is close for what borrowSnapshot returned: others may take the iterator while its state is the published one.
func (s *snapshot) giveBack() error {
	if s.it == nil || s.now != s.store.now.Load() {
		return s.close()
	}
	if err := s.large.close(); err != nil {
		return errors.Join(err, s.close())
	}
	s.unbound()
	if !s.store.idle.put(s.it, s.now) {
		return s.close()
	}
	s.it = nil
	s.store.gate.leave()
	return nil
}

func (s *snapshot) close() error {
	if s.it == nil {
		return nil
	}
	err := errors.Join(s.large.close(), s.it.Close())
	s.it = nil
	s.store.gate.leave()
	return err
}

// get returns the newest version of key at or below rev; live is false for a tombstone or none. The record is valid until the
// snapshot is used again.
func (s *snapshot) get(key []byte, rev int64) (r record, at Revision, live bool, err error) {
	s.unbound()
	s.keyBuf = storage.AppendDataKey(s.keyBuf[:0], key, rev, maxSub)
	if !s.it.SeekPrefixGE(s.keyBuf) {
		if err := s.it.Error(); err != nil {
			return record{}, Revision{}, false, fmt.Errorf("reading a key: %w", err)
		}
		return record{}, Revision{}, false, nil
	}
	r.stored, err = s.it.ValueAndErr()
	if err != nil {
		return record{}, Revision{}, false, fmt.Errorf("reading a value: %w", err)
	}
	_, main, sub, ok := storage.DecodeDataKey(s.it.Key())
	if !ok {
		return record{}, Revision{}, false, fmt.Errorf("%w: data key %x", storage.ErrCorrupt, s.it.Key())
	}
	if err := r.standsAt(key, main, sub); err != nil {
		return record{}, Revision{}, false, err
	}
	return r, Revision{main, sub}, r.live(), nil
}

// at returns the version of key that was written at exactly rev.
func (s *snapshot) at(key []byte, rev Revision) (r record, found bool, err error) {
	r, at, live, err := s.getFrom(key, rev)
	if err != nil || !live || at != rev {
		return record{}, false, err
	}
	return r, true, nil
}

// getFrom is get with a sub-revision as the upper bound too.
func (s *snapshot) getFrom(key []byte, rev Revision) (r record, at Revision, live bool, err error) {
	r, at, live, err = s.get(key, rev.Main)
	for err == nil && rev.Less(at) {
		if !s.it.Next() {
			return record{}, Revision{}, false, s.it.Error()
		}
		if r.stored, err = s.it.ValueAndErr(); err != nil {
			break
		}
		_, main, sub, _ := storage.DecodeDataKey(s.it.Key())
		if err = r.standsAt(key, main, sub); err != nil {
			break
		}
		at, live = Revision{main, sub}, r.live()
	}
	return r, at, live, err
}

// whole returns the version of a record that was read last. The iterator stays where it is, but if moving says that this does not matter
// any more. The KV is valid until the snapshot is used again.
func (s *snapshot) whole(r record, moving bool) (KV, error) {
	if moving && !s.bounded {
		return s.large.wholeBy(r, s.it)
	}
	return s.large.whole(r, s.it)
}

// unbound gives the iterator the bounds that it was opened with.
func (s *snapshot) unbound() {
	if s.bounded {
		s.it.SetBounds(dataLower, largeUpper)
		s.bounded = false
	}
}

// bound sets the iterator's bounds to the keys [key, end).
func (s *snapshot) bound(key, end []byte) {
	s.lower = storage.AppendDataPrefix(s.lower[:0], key)
	s.upper = appendDataEnd(s.upper[:0], end)
	s.it.SetBounds(s.lower, s.upper)
	s.bounded = true
}

// clone opens a second iterator over the same state, bounded to [lower, upper), which may lie in any space.
func (s *snapshot) clone(lower, upper []byte) (*storage.Iterator, error) {
	it, err := cloneOf(s.it.Clone)
	if err != nil {
		return nil, fmt.Errorf("opening a second iterator: %w", err)
	}
	it.SetBounds(lower, upper)
	return it, nil
}

// cloneOf calls an iterator's Clone with its zero options; their type belongs to Pebble, which only storage imports.
func cloneOf[O any](clone func(O) (*storage.Iterator, error)) (*storage.Iterator, error) {
	var same O
	return clone(same)
}

// appendDataEnd appends the exclusive upper bound of data keys below end.
func appendDataEnd(dst, end []byte) []byte {
	if bytes.Equal(end, fromKeyOn) {
		return append(dst, dataUpper...)
	}
	return storage.AppendDataPrefix(dst, end)
}

// emptyRange tells whether [key, end) holds no key at all.
func emptyRange(key, end []byte) bool {
	return !bytes.Equal(end, fromKeyOn) && bytes.Compare(key, end) >= 0
}

// inRange tells whether k is in [key, end).
func inRange(k, key, end []byte) bool {
	return bytes.Compare(k, key) >= 0 && (bytes.Equal(end, fromKeyOn) || bytes.Compare(k, end) < 0)
}
