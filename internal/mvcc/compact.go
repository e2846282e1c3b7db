package mvcc

import (
	"context"
	"fmt"
	"math"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// CompactPending tells whether CompactStep has something to do.
func (s *Store) CompactPending() bool {
	return s.compactDone.Load().Less(wholeRevision(s.now.Load().compact))
}

// wholeRevision is how compactDone says that all changes of a revision are handled: no change has that sub-revision.
func wholeRevision(main int64) Revision { return Revision{main, maxSub} }

// CompactStep deletes what a slice of at most maxRecords changes at or below the compact revision has superseded,
// in one batch; done tells that nothing is left. It runs beside a Writer and Views; calls beside each other wait.
// Its work is that of the changes compacted, not of the keys stored. A crash between slices resumes at the
// last whole revision; to repeat one is harmless. Before the first slice of a target the hash that the compaction
// keeps is made (HashKV), which ctx ends. Returns ErrRetired when the store was replaced, or the context's error.
func (s *Store) CompactStep(ctx context.Context, maxRecords int) (done bool, err error) {
	return s.CompactStepTo(ctx, math.MaxInt64, maxRecords)
}

// CompactStepTo is CompactStep that deletes nothing but what changes at or below upTo have superseded, where the compact revision may be above it by now.
func (s *Store) CompactStepTo(ctx context.Context, upTo int64, maxRecords int) (done bool, err error) {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	target := min(upTo, s.now.Load().compact)
	if !s.compactDone.Load().Less(wholeRevision(target)) {
		return !s.CompactPending(), nil
	}
	// The batch is committed after the iterator was closed, so the iterator alone does not keep the database open.
	if err := s.Hold(); err != nil {
		return false, err
	}
	defer s.Release()
	if err := s.hashCompactions(ctx, target); err != nil {
		return false, err
	}
	c := compactSlice{store: s, target: target, left: max(2, maxRecords), batch: s.db.NewBatch(), freed: s.freed.slice()}
	err = c.run()
	if cerr := c.batch.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return false, fmt.Errorf("compacting to %d: %w", target, err)
	}
	return !s.CompactPending(), nil
}

// Progress returns how many changes were committed since Open, and at how many compactions have looked, the last one of each slice twice.
func (s *Store) Progress() (committed, compacted uint64) {
	return s.committed.Value(), s.compacted.Value()
}

// compactSlice is one call of CompactStep.
type compactSlice struct {
	store  *Store
	target int64
	left   int
	batch  *storage.Batch
	key    []byte
	freed  freedSlice

	at      Revision // the last change handled
	removed uint64   // versions in the batch
	handled uint64   // changes looked at
	whole   bool     // the slice reached the target
}

func (c *compactSlice) run() error {
	// A new target begins with the whole revision that the one before came to: tombstones in it may have been
	// left. Otherwise the last record handled is handled again, which changes nothing.
	from := *c.store.compactDone.Load()
	if c.store.compactTarget != c.target {
		from = Revision{Main: max(0, from.Main)}
	}
	c.store.compactTarget = c.target
	c.at = from
	if err := c.collect(from); err != nil {
		return err
	}
	if c.whole {
		c.at = wholeRevision(c.target)
		if err := c.deleteCountChanges(); err != nil {
			return err
		}
	}
	done := encodeNumbers(uint64(c.at.Main), uint64(c.at.Sub))
	if err := c.batch.Set(metaKey(metaCompactDone), done, nil); err != nil {
		return err
	}
	if err := c.freed.write(c.batch); err != nil {
		return err
	}
	if err := c.store.db.Commit(c.batch); err != nil {
		return err
	}
	c.store.removed.Add(c.removed)
	c.store.compacted.Add(c.handled)
	c.store.freed.done(c.freed)
	c.store.compactDone.Store(&c.at)
	return nil
}

// collect puts the deletions into the batch.
func (c *compactSlice) collect(from Revision) error {
	snap, err := openSnapshot(c.store, c.store.now.Load())
	if err != nil {
		return err
	}
	h, err := snap.walkHistory(from, c.target)
	if err == nil {
		err = c.walk(h)
		if cerr := h.close(); err == nil {
			err = cerr
		}
	}
	if cerr := snap.close(); err == nil {
		err = cerr
	}
	return err
}

func (c *compactSlice) walk(h *historyWalk) error {
	for c.left > 0 {
		if !h.next() {
			c.whole = h.err == nil
			return h.err
		}
		c.left--
		c.handled++
		c.at = h.rev
		if c.freed.previous(h) {
			c.removed++
		}
		if !h.prev.IsZero() {
			if err := c.delete(h.key, h.prev, h.prevSize); err != nil {
				return err
			}
		}
		// A tombstone of the compact revision itself stays until the next compaction: whoever watches from
		// that revision on must see the delete, as with etcd.
		if h.kind == EventDelete && h.rev.Main < c.target {
			c.freed.tombstone(h)
			c.removed++
			if err := c.delete(h.key, h.rev, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// delete deletes a version, whose KeyValue has size bytes, and its history record. It does not look where the version lies: deleting
// what is not there changes nothing.
func (c *compactSlice) delete(key []byte, rev Revision, size int) error {
	if mayBeLarge(key, size) {
		c.key = storage.AppendRevKey(c.key[:0], storage.SpaceLarge, rev.Main, rev.Sub)
		if err := c.batch.DeleteSized(c.key, uint32(size), nil); err != nil {
			return err
		}
	}
	c.key = storage.AppendDataKey(c.key[:0], key, rev.Main, rev.Sub)
	if err := c.batch.Delete(c.key, nil); err != nil {
		return err
	}
	c.key = storage.AppendRevKey(c.key[:0], storage.SpaceHistory, rev.Main, rev.Sub)
	return c.batch.Delete(c.key, nil)
}

// deleteCountChanges drops the count changes that no readable revision needs.
func (c *compactSlice) deleteCountChanges() error {
	from := storage.AppendRevKey(nil, storage.SpaceCounts, 0, 0)
	to := storage.AppendRevKey(nil, storage.SpaceCounts, c.target+1, 0)
	return c.batch.DeleteRange(from, to, nil)
}
