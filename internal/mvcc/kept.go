package mvcc

import (
	"context"
	"fmt"
	"sync"
)

// Hash is a hash of the store's content (docs of HashKV) and what it covers.
type Hash struct {
	// Hash is the hash at Revision.
	Hash uint32
	// Compact is the compact revision that it was made with, -1 for none.
	Compact int64
	// Revision is the revision hashed.
	Revision int64
}

// keptMax is how many hashes of compactions are kept, as in etcd.
const keptMax = 10

// hashLiveMax is the number of live keys, and hashRevisionsMax that of revisions since the compaction before, up to which a
// compaction makes a hash without being asked to. A hash reads every version, so for a large store it would be the larger
// part of a small compaction, and a tenth of a second of one processor is the most that it may take.
const (
	hashLiveMax      = 20_000
	hashRevisionsMax = 100_000
)

// kept holds the hashes that compactions made, and which compactions have yet to make theirs. It is in memory only. A
// compaction to C with the one before to P makes the hash of the content at C with P as the compact revision, for
// which nothing may have been removed that only C makes removable.
type kept struct {
	mu      sync.Mutex
	hashes  []Hash // in order of revision, at most keptMax
	pending []Hash // without their hash, in order, at most keptMax
	always  bool
}

// KeepHashes lets every compaction make a hash, however large the store is. It belongs before the first compaction.
func (s *Store) KeepHashes() {
	s.kept.mu.Lock()
	s.kept.always = true
	s.kept.mu.Unlock()
}

// ForgetHashes drops the hashes that compactions were yet to make, as a start does after it applied its log anew: etcd
// forgets hashes when it stops.
func (s *Store) ForgetHashes() {
	s.kept.mu.Lock()
	s.kept.pending = nil
	s.kept.mu.Unlock()
}

// CompactHashes returns the hashes that the last compactions made, the newest first. The slice is the caller's.
func (s *Store) CompactHashes() []Hash {
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	out := make([]Hash, 0, len(s.kept.hashes))
	for i := len(s.kept.hashes) - 1; i >= 0; i-- {
		out = append(out, s.kept.hashes[i])
	}
	return out
}

// KeptHash returns the hash that a compaction to rev made, which HashKV answers with, if it is kept.
func (s *Store) KeptHash(rev int64) (Hash, bool) { return s.kept.at(rev) }

// at returns the hash that a compaction to rev made.
func (k *kept) at(rev int64) (Hash, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.hashes {
		if h.Revision == rev {
			return h, true
		}
	}
	return Hash{}, false
}

// expect takes in compactions that were scheduled, before they are published.
func (k *kept) expect(compactions []Hash) {
	k.mu.Lock()
	k.pending = lastOf(append(k.pending, compactions...))
	k.mu.Unlock()
}

// lastOf returns the newest hashes that are kept.
func lastOf(h []Hash) []Hash {
	if n := len(h) - keptMax; n > 0 {
		return append(h[:0], h[n:]...)
	}
	return h
}

// next returns the oldest compaction up to target without a hash.
func (k *kept) next(target int64) (h Hash, always, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 || k.pending[0].Revision > target {
		return Hash{}, false, false
	}
	return k.pending[0], k.always, true
}

// done says that a compaction has its hash, or will have none.
func (k *kept) done(h Hash, keep bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.pending) > 0 && k.pending[0].Revision <= h.Revision {
		k.pending = k.pending[1:]
	}
	if keep {
		k.hashes = lastOf(append(k.hashes, h))
	}
}

// hashCompactions makes the hashes of the compactions up to target. REQUIRES: nothing was removed of what only they make
// removable; compacting is held.
func (s *Store) hashCompactions(ctx context.Context, target int64) error {
	for {
		h, always, ok := s.kept.next(target)
		if !ok {
			return nil
		}
		keep := always || s.now.Load().runs.live <= hashLiveMax && h.Revision-h.Compact <= hashRevisionsMax
		if keep {
			snap, err := openSnapshot(s, s.now.Load())
			if err != nil {
				return err
			}
			v := &View{snap: snap, rev: h.Revision, compact: h.Compact}
			h.Hash, err = v.hashCompaction(ctx)
			if cerr := v.Close(); err == nil {
				err = cerr
			}
			if err != nil {
				return fmt.Errorf("hashing for the compaction to %d: %w", h.Revision, err)
			}
		}
		s.kept.done(h, keep)
	}
}

// hashCompaction is the hash that a compaction to the view's revision keeps. It differs from hash where no key is live: what
// compaction is to leave, and by that whether superseded versions count, has the tombstones of the revision itself.
func (v *View) hashCompaction(ctx context.Context) (uint32, error) {
	whole, err := v.lastCounted()
	if err == nil && whole < v.rev {
		var deletes bool
		if deletes, err = v.deletesAt(v.rev); deletes {
			whole = v.rev
		}
	}
	if err != nil {
		return 0, err
	}
	return v.hashCounting(ctx, whole, hashRecordsMax)
}

// deletesAt tells whether a revision deletes a key.
func (v *View) deletesAt(rev int64) (deletes bool, err error) {
	err = v.eachChange(rev, func(h *historyWalk) { deletes = deletes || h.kind == EventDelete })
	return deletes, err
}
