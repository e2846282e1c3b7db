package raftlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// Bootstrap initialises a new log: identity, hard state, mark {0, 0, generation} and the entries, which begin
// at index 1, in one synced record.
func (l *Log) Bootstrap(id storage.Identity, hs HardState, entries []*raftpb.Entry, generation uint64) error {
	if err := checkRun(1, entries); err != nil {
		return err
	}
	return l.do(record{kind: kindInstall, identity: &id, hs: &hs, mark: &Mark{Generation: generation}}.withEntries(entries), true)
}

// Append writes entries, without gaps, from an index of at most the last plus one, and the hard state if it is
// given. What is in the log from the first of them on is overwritten: raft replaces a tail whose entries were never
// committed. The entries of several such appends may be given one after another; then only what the last of
// them leaves is written.
//
// With sync it returns after all of it is durable; without, nothing may be acknowledged. On an error nothing is
// known to be durable and the log is failed, unless the arguments were refused.
func (l *Log) Append(hs *HardState, entries []*raftpb.Entry, sync bool) error {
	entries, err := flatten(entries)
	if err != nil {
		return err
	}
	if hs == nil && len(entries) == 0 {
		return l.Err()
	}
	return l.do(record{kind: kindAppend, hs: hs}.withEntries(entries), sync)
}

// Install replaces the whole log after a snapshot: all entries go, m is the new mark, and entries, which begin at
// m.Index + 1, may follow. It is one synced record, the commit point of the installation.
func (l *Log) Install(m Mark, hs HardState, entries []*raftpb.Entry) error {
	if err := checkRun(m.Index+1, entries); err != nil {
		return err
	}
	l.write.Lock()
	defer l.write.Unlock()
	if !l.Initialised() {
		return fmt.Errorf("%w: an installation into a log that is not initialised", errMisuse)
	}
	if err := l.putLocked(record{kind: kindInstall, hs: &hs, mark: &m}.withEntries(entries), true); err != nil {
		return err
	}
	gone, err := l.retire()
	if err != nil {
		return err
	}
	return l.remove(gone)
}

// Cut removes the entries up to index and makes it the mark. It is synced only when files go: a cut that is lost in a crash is
// done again. Below or at the mark it does nothing; above the last entry it is refused.
func (l *Log) Cut(index uint64) error { return l.cut(index, false) }

// CutAll is Cut at the last entry, and begins another segment, so that all that was there goes. At another entry it is Cut.
func (l *Log) CutAll(index uint64) error { return l.cut(index, true) }

func (l *Log) cut(index uint64, all bool) error {
	l.write.Lock()
	gone, err := l.cutLocked(index, all)
	l.write.Unlock()
	if err == nil && len(gone) > 0 {
		err = l.removeGently(gone)
	}
	if err != nil {
		return fmt.Errorf("cut the log at %d: %w", index, err)
	}
	return nil
}

// cutLocked is cut without removing files. REQUIRES: write is held.
func (l *Log) cutLocked(index uint64, all bool) (gone []*segment, err error) {
	mark := l.now().mark
	if index <= mark.Index {
		return nil, l.failure.check()
	}
	if last := l.LastIndex(); index > last {
		return nil, fmt.Errorf("%w: the log ends at %d", errMisuse, last)
	}
	mark.Index = index
	if mark.Term, err = l.Term(index); err != nil {
		return nil, err
	}
	if all && index == l.LastIndex() {
		l.full = true
	}
	if err := l.putLocked(record{kind: kindMark, mark: &mark}, false); err != nil {
		return nil, err
	}
	return l.retire()
}

// retire takes the segments that hold nothing any more out of the log. What made them so is durable then. REQUIRES: write is held.
func (l *Log) retire() ([]*segment, error) {
	l.mu.RLock()
	n := len(l.segments) - 1
	if keep := l.index.oldest(); keep != nil {
		n = slices.Index(l.segments, keep)
	}
	l.mu.RUnlock()
	if n <= 0 {
		return nil, nil
	}
	if l.unsynced { // also with NoSync: what is left must be a log
		if err := l.current.sync(); err != nil {
			return nil, l.failure.fail(err)
		}
		l.unsynced = false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := l.segments[:n]
	l.segments = slices.Clone(l.segments[n:])
	return gone, nil
}

// remove removes the files of segments that are retired.
func (l *Log) remove(gone []*segment) error {
	if err := l.removeNames(gone); err != nil {
		return err
	}
	for _, s := range gone {
		if err := s.release(); err != nil {
			return l.failure.fail(err)
		}
	}
	return nil
}

// removeGently is remove with rests in between: a file that is closed when it has no name gives back all at once what it takes, for which a
// system that tells the disk of it needs 8 ms and more.
func (l *Log) removeGently(gone []*segment) error {
	if err := l.removeNames(gone); err != nil {
		return err
	}
	// A name that a crash brings back must be that of a whole segment.
	if err := storage.SyncDir(l.fs, l.dir); err != nil {
		return l.failure.fail(err)
	}
	for _, s := range gone {
		if s.refs.Load() == 1 { // nobody reads it, and who asks for it now does not find it
			l.empty(s)
		}
		if err := s.release(); err != nil {
			return l.failure.fail(err)
		}
	}
	return nil
}

func (l *Log) removeNames(gone []*segment) error {
	for _, s := range gone {
		if err := l.failure.check(); err != nil {
			return err
		}
		if err := l.fs.Remove(s.path); err != nil {
			return l.failure.fail(fmt.Errorf("remove %s: %w", s.path, err))
		}
	}
	return nil
}

// do writes one operation and shows it.
func (l *Log) do(r record, sync bool) error {
	l.write.Lock()
	defer l.write.Unlock()
	return l.putLocked(r, sync)
}

// putLocked is do. REQUIRES: write is held.
func (l *Log) putLocked(r record, sync bool) error {
	if err := l.failure.check(); err != nil {
		return err
	}
	if l.readOnly {
		return fmt.Errorf("%w: it is open for reading alone", errMisuse)
	}
	before := l.now()
	after, err := before.after(&r)
	if err != nil {
		return err
	}
	if err := l.store(&r, &before, after, sync); err != nil {
		return l.failure.fail(fmt.Errorf("write the raft log in %s: %w", l.dir, err))
	}
	if sync && r.kind != kindSeal {
		l.sealer.appended()
	}
	return nil
}

// store writes the record, syncs it, and then shows it.
func (l *Log) store(r *record, before *state, after state, sync bool) error {
	if err := l.nextSegment(before); err != nil {
		return err
	}
	l.extend()
	s := l.current
	start := s.end
	at, err := l.writer.write(s, r)
	if err != nil {
		return err
	}
	s.length.Store(max(s.end, s.ahead))
	l.written.Add(uint64(s.end - start))
	l.unsynced = true
	if sync {
		if err := l.sync(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.showLocked(r, after, s, at)
	return nil
}

// showLocked makes an operation visible that was written to s, its entries from at on.
func (l *Log) showLocked(r *record, after state, s *segment, at int64) {
	forced := l.index.change(r, l.state.last)
	for i, e := range r.entries {
		l.index.add(point{e.GetIndex(), s, at, s.end}, forced && i == 0)
		at += storedBytes(e)
	}
	switch {
	case r.kind == kindInstall || r.kind == kindStage:
		l.tail.dropFrom(0) // what is staged is not read
	case r.kind == kindMark:
		l.tail.dropUpTo(r.mark.Index)
	}
	if r.kind != kindStage {
		l.tail.append(r.entries)
	}
	l.state = after
}

// nextSegment begins another segment if there is none, or the newest takes no more. REQUIRES: write is held.
func (l *Log) nextSegment(now *state) error {
	if l.current != nil && !l.full && l.current.end < l.segmentBytes {
		return nil
	}
	seq, place, chain := uint64(1), int64(0), uint32(0)
	if c := l.current; c != nil {
		if l.unsynced { // also with NoSync: only the newest segment may be torn
			if err := c.sync(); err != nil {
				return err
			}
		}
		seq, place, chain = c.seq+1, c.end, c.sum
	}
	s, err := createSegment(l.fs, l.dir, seq, now.begin(uint64(place)), chain)
	if err != nil {
		return err
	}
	if err := s.keep(l.fs, l.dir); err != nil {
		return errors.Join(err, s.release())
	}
	if seq == 1 {
		if err := storage.GuardLog(l.fs, l.dir); err != nil {
			return err
		}
	}
	l.written.Add(uint64(s.end))
	l.giveBack(l.current)
	l.current, l.full, l.unsynced = s, false, false
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segments = append(l.segments, s)
	return nil
}

// sync makes what was written durable. REQUIRES: write is held.
func (l *Log) sync() error {
	if l.noSync {
		return nil
	}
	began := l.clock.Now()
	if err := l.current.sync(); err != nil {
		return err
	}
	l.unsynced = false
	if took := l.clock.Now().Sub(began); took > slowSync {
		l.logger.Warn("slow fdatasync", "took", took, "expected-duration", slowSync, "file", l.current.path)
	}
	return nil
}
