package mvcc

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// hashSeed is the name of the table that etcd keeps versions in: it begins the hash.
const hashSeed = "key"

// contextEvery is after how many records a long walk looks whether it is still wanted.
const contextEvery = 1024

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// HashKV returns the hash that etcd's HashKV gives for the same content at revision rev, 0 for the current one,
// with the compact revision (-1 if there is none) and the revision hashed. A hash that a compaction to rev made is
// answered first, and its compact revision is that of the compaction before. A negative rev is the hash of nothing, as
// in etcd. Returns ErrCompacted, ErrFutureRevision, or the context's error.
func (s *Store) HashKV(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	if h, ok := s.kept.at(rev); ok {
		return h.Hash, h.Compact, h.Revision, nil
	}
	return s.HashNow(ctx, rev)
}

// HashNow is HashKV with the present compact revision: it does not look at the hashes that compactions made, which a
// member forgets when it stops, so members with equal content answer alike.
func (s *Store) HashNow(ctx context.Context, rev int64) (hash uint32, compactRev, hashRev int64, err error) {
	if rev < 0 {
		return crc32.Checksum([]byte(hashSeed), castagnoli), s.CompactRevision(), rev, nil
	}
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

// hash computes the hash at the view's revision, with its compact revision.
//
// The hash runs over records in order of revision, while their values lie in order of the keys; reading
// each by its key costs a seek, some microseconds. So every record is hashed where a scan over the keys
// finds it, and the hashes are put together in order of revision afterwards: a CRC allows that (crcJoin).
// A pass remembers hashRecordsMax records; when there are more, it keeps those with the lowest revisions, and another
// pass follows.
func (v *View) hash(ctx context.Context) (uint32, error) { return v.hashBy(ctx, hashRecordsMax) }

func (v *View) hashBy(ctx context.Context, recordsMax int) (uint32, error) {
	whole, err := v.lastCounted()
	if err != nil {
		return 0, fmt.Errorf("hashing at revision %d: %w", v.rev, err)
	}
	return v.hashCounting(ctx, whole, recordsMax)
}

// hashCounting is the hash when changes up to whole make the versions before them not count: see lastCounted.
func (v *View) hashCounting(ctx context.Context, whole int64, recordsMax int) (uint32, error) {
	if v.rev <= 0 {
		return crc32.Checksum([]byte(hashSeed), castagnoli), nil // no change has such a revision
	}
	crc := crc32.Checksum([]byte(hashSeed), castagnoli)
	var records recordHashes // each pass has the memory of the one before
	for from, more := (Revision{}), true; more; {
		p := hashPass{view: v, from: from, to: wholeRevision(v.rev), superseding: whole, max: recordsMax, records: records[:0]}
		if err := p.run(ctx); err != nil {
			return 0, fmt.Errorf("hashing at revision %d: %w", v.rev, err)
		}
		crc = p.records.join(crc)
		from, more, records = p.to, p.cut, p.records
	}
	return crc, nil
}

// lastCounted returns up to which revision a change makes the version before it, at or below the compact revision, not
// count: that of the view. When etcd would keep no key at all there, it leaves out only what compaction removes, be it
// removed already or not. It would keep those that are live, but for one that the revision itself deletes and puts again.
func (v *View) lastCounted() (int64, error) {
	if v.compact < 0 || v.rev <= 0 {
		return v.rev, nil
	}
	live, err := v.snap.countByRuns(nil, fromKeyOn, v.rev)
	if err == nil && live > 0 {
		var again int64
		again, err = v.putAgain(v.rev)
		live -= again
	}
	if err != nil || live > 0 {
		return v.rev, err
	}
	return v.compact, nil
}

// putAgain returns how many keys a revision deletes and puts again.
func (v *View) putAgain(rev int64) (n int64, err error) {
	created := make(map[string]bool) // by the revision and live after it; true if deleted in it, too
	err = v.eachChange(rev, func(h *historyWalk) {
		switch {
		case h.kind == EventDelete:
			delete(created, string(h.key))
		case h.prev.IsZero():
			created[string(h.key)] = false
		}
	})
	if err != nil || len(created) == 0 {
		return 0, err
	}
	err = v.eachChange(rev, func(h *historyWalk) {
		if again, ok := created[string(h.key)]; ok && !again && h.kind == EventDelete {
			created[string(h.key)] = true
			n++
		}
	})
	return n, err
}

// eachChange calls fn with each change of a revision, in order.
func (v *View) eachChange(rev int64, fn func(h *historyWalk)) error {
	h, err := v.snap.walkHistory(Revision{Main: rev}, rev)
	if err != nil {
		return err
	}
	for h.next() {
		fn(h)
	}
	return h.close()
}

// hashPass hashes the records of the revisions (from, to] one by one. When they are too many it lowers to and says so.
type hashPass struct {
	view        *View
	from, to    Revision
	superseding int64 // see lastCounted
	max         int

	cut     bool
	records recordHashes
	buf     []byte
}

// run scans all versions in order of the keys, those of a key from the newest on.
func (p *hashPass) run(ctx context.Context) error {
	v := p.view
	v.snap.bound(nil, fromKeyOn)
	it := v.snap.it
	// newer is whether a change that supersedes was met of the key that the last version belongs to.
	var last []byte
	newer, skipped := false, 0
	for ok, n := it.First(), 0; ok; n++ {
		if n%contextEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		user, main, sub, good := storage.DecodeDataKey(it.Key())
		if !good {
			return fmt.Errorf("%w: data key %x", storage.ErrCorrupt, it.Key())
		}
		if main > v.rev {
			skipped++
			ok = v.snap.skipNewer(user, v.rev, skipped)
			continue
		}
		if n == 0 || string(user) != string(last) {
			last, newer = append(last[:0], user...), false
		}
		rev := Revision{main, sub}
		dead := newer && main <= v.compact
		newer = newer || main <= p.superseding
		skipped = 0
		if !dead && p.from.Less(rev) && !p.to.Less(rev) {
			if err := p.add(user, rev); err != nil {
				return err
			}
		}
		if newer && main <= v.compact {
			ok = it.NextPrefix() // what is older does not count either
		} else {
			ok = it.Next()
		}
	}
	if err := it.Error(); err != nil {
		return fmt.Errorf("reading versions: %w", err)
	}
	return nil
}

// add hashes the version under the iterator as etcd stores it: the key is main, '_', sub and for a tombstone 't', the
// value the KeyValue, which for a tombstone has the key alone. Tombstones at or below the compact revision do not count.
func (p *hashPass) add(user []byte, rev Revision) error {
	stored, err := p.view.snap.it.ValueAndErr()
	if err != nil {
		return fmt.Errorf("reading a value: %w", err)
	}
	p.buf = binary.BigEndian.AppendUint64(p.buf[:0], uint64(rev.Main))
	p.buf = append(p.buf, '_')
	p.buf = binary.BigEndian.AppendUint64(p.buf, uint64(rev.Sub))
	r := record{stored}
	if !r.live() {
		if rev.Main <= p.view.compact {
			return nil
		}
		f := fields{key: user}
		p.buf = f.append(append(p.buf, 't'))
	}
	if err := r.standsAt(user, rev.Main, rev.Sub); err != nil {
		return err
	}
	kv, err := p.view.snap.whole(r, false)
	if err != nil {
		return err
	}
	raw := kv.raw
	crc := crc32.Update(crc32.Checksum(p.buf, castagnoli), castagnoli, raw)
	if n := len(p.records); n == cap(p.records) {
		p.records = slices.Grow(p.records, min(n, 2*p.max-n)+1) // append would add a quarter at a time, and leave five times as much behind
	}
	p.records = append(p.records, recordHash{rev: rev, crc: crc, size: uint32(len(p.buf) + len(raw))})
	if len(p.records) == 2*p.max {
		p.records.sort()
		p.records = p.records[:p.max]
		p.to, p.cut = p.records[p.max-1].rev, true
	}
	return nil
}
