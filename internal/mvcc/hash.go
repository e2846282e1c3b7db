package mvcc

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// hashSeed is the name of the table that etcd keeps versions in: it begins the hash.
const hashSeed = "key"

// contextEvery is after how many records a long walk looks whether it is still wanted.
const contextEvery = 1024

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// HashKV returns the hash that etcd's HashKV gives for the same content at revision rev, 0 or less for the current one,
// with the compact revision (-1 if there is none) and the revision hashed. Returns ErrCompacted, ErrFutureRevision, or the
// context's error.
func (s *Store) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	v, err := s.View(rev)
	if err != nil {
		return 0, 0, 0, err
	}
	hash, err = v.hash(ctx)
	if cerr := v.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, 0, 0, err
	}
	return hash, v.compact, v.rev, nil
}

func (v *View) hash(ctx context.Context) (uint32, error) {
	gone, err := v.superseded(ctx)
	if err != nil {
		return 0, fmt.Errorf("hashing at revision %d: %w", v.rev, err)
	}
	h, err := v.snap.walkHistory(Revision{}, v.rev)
	if err != nil {
		return 0, err
	}
	sum := hasher{view: v, crc: crc32.Update(0, castagnoli, []byte(hashSeed))}
	for n := 0; err == nil && h.next(); n++ {
		if n%contextEvery == 0 && ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		if h.rev.Main <= v.compact {
			if h.kind == EventDelete {
				continue
			}
			if i, found := slices.BinarySearchFunc(gone, h.rev, compareRevisions); found {
				gone = gone[i+1:]
				continue
			}
		}
		err = sum.add(h)
	}
	if cerr := h.close(); err == nil {
		err = cerr
	}
	return sum.crc, err
}

// superseded returns, in order, which versions at or below the compact revision do not count: those that a later change
// up to the revision hashed replaced. When no key at all is live at that revision, etcd leaves out only
// what compaction removes, be it removed already or not.
func (v *View) superseded(ctx context.Context) ([]Revision, error) {
	if v.compact < 0 {
		return nil, nil
	}
	to := v.rev
	live, err := v.snap.countByRuns(nil, fromKeyOn, v.rev)
	if err != nil {
		return nil, err
	}
	if live == 0 {
		to = v.compact
	}
	h, err := v.snap.walkHistory(Revision{}, to)
	if err != nil {
		return nil, err
	}
	var gone []Revision
	for n := 0; h.next(); n++ {
		if n%contextEvery == 0 && ctx.Err() != nil {
			err = ctx.Err()
			break
		}
		if !h.prev.IsZero() && h.prev.Main <= v.compact {
			gone = append(gone, h.prev)
		}
	}
	if cerr := h.close(); err == nil {
		err = cerr
	}
	slices.SortFunc(gone, compareRevisions)
	return gone, err
}

func compareRevisions(a, b Revision) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// hasher adds records as etcd stores them: the key is main, '_', sub and for a tombstone 't', the value the KeyValue,
// which for a tombstone has the key alone.
type hasher struct {
	view *View
	crc  uint32
	buf  []byte
}

func (s *hasher) add(h *historyWalk) error {
	s.buf = binary.BigEndian.AppendUint64(s.buf[:0], uint64(h.rev.Main))
	s.buf = append(s.buf, '_')
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(h.rev.Sub))
	if h.kind == EventDelete {
		f := fields{key: h.key}
		s.buf = f.append(append(s.buf, 't'))
		s.crc = crc32.Update(s.crc, castagnoli, s.buf)
		return nil
	}
	kv, err := s.view.loadVersion(h.key, h.rev)
	if err != nil {
		return err
	}
	s.crc = crc32.Update(crc32.Update(s.crc, castagnoli, s.buf), castagnoli, kv.Raw())
	return nil
}
