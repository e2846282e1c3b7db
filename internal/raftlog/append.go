package raftlog

import (
	"errors"
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// errMisuse is wrapped by errors that only a bug of the caller can cause. Nothing was written.
var errMisuse = errors.New("raftlog is used wrongly")

// Bootstrap initialises a new log: identity, hard state, mark {0, 0, generation} and the entries, which begin
// at index 1, in one synced batch.
func (l *Log) Bootstrap(id storage.Identity, hs HardState, entries []*raftpb.Entry, generation uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.Initialised() {
		return fmt.Errorf("%w: bootstrap of a log that is initialised", errMisuse)
	}
	change := change{hs: &hs, mark: &Mark{Generation: generation}, entries: entries, identity: &id, overwrites: l.remains}
	if err := checkRun(1, entries); err != nil {
		return err
	}
	return l.commit(change, true)
}

// Append writes entries, without gaps, from an index of at most the last plus one, and the hard state if it is
// given. What is in the log from the first of them on is overwritten: raft replaces a tail whose entries were never
// committed. The entries of several such appends may be given one after another; then only what the last of
// them leaves is written.
//
// With sync it returns after all of it is durable; without, nothing may be acknowledged. On an error nothing is
// known to be durable and the log is failed, unless the arguments were refused.
func (l *Log) Append(hs *HardState, entries []*raftpb.Entry, sync bool) error {
	l.write.Lock()
	defer l.write.Unlock()
	entries, err := flatten(entries)
	if err != nil {
		return err
	}
	change := change{hs: hs, entries: entries}
	l.mu.RLock()
	mark, last, initialised := l.mark.Index, l.last, l.initialised
	l.mu.RUnlock()
	if !initialised {
		return fmt.Errorf("%w: append to a log that is not initialised", errMisuse)
	}
	if len(entries) > 0 {
		at := entries[0].GetIndex()
		if at <= mark || at > last+1 {
			return fmt.Errorf("%w: append at %d to a log with the mark %d and the last entry %d", errMisuse, at, mark, last)
		}
		change.overwrites = at <= last
	}
	return l.commit(change, sync)
}

// Install replaces the whole log after a snapshot: all entries go, m is the new mark, and entries, which begin at
// m.Index + 1, may follow. It is one synced batch, the commit point of the installation.
func (l *Log) Install(m Mark, hs HardState, entries []*raftpb.Entry) error {
	l.write.Lock()
	defer l.write.Unlock()
	if !l.Initialised() {
		return fmt.Errorf("%w: install into a log that is not initialised", errMisuse)
	}
	if err := checkRun(m.Index+1, entries); err != nil {
		return err
	}
	return l.commit(change{hs: &hs, mark: &m, entries: entries, overwrites: true}, true)
}

// Cut removes the entries up to index and makes it the mark. It is not synced: a cut that is lost in a crash is
// done again. Below or at the mark it does nothing; above the last entry it is refused.
func (l *Log) Cut(index uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	l.mu.RLock()
	mark, last, e := l.mark, l.last, l.tail.get(index)
	l.mu.RUnlock()
	switch {
	case index <= mark.Index:
		return nil
	case index > last:
		return fmt.Errorf("%w: cut at %d of a log that ends at %d", errMisuse, index, last)
	}
	mark.Index, mark.Term = index, e.GetTerm()
	if e == nil {
		term, found, err := l.storedTerm(index)
		if err == nil && !found {
			err = l.gap(index)
		}
		if err != nil {
			return fmt.Errorf("cut the log at %d: %w", index, err)
		}
		mark.Term = term
	}
	b := l.db.NewBatch()
	defer b.Close() //nolint:errcheck // gives memory back, nothing else
	if err := errors.Join(
		b.DeleteRange(entryKey(0), entryKey(index+1), nil),
		b.Set(keyMark, mark.encode(), nil),
	); err != nil {
		return fmt.Errorf("cut the log at %d: %w", index, err)
	}
	if err := l.db.Commit(b, false); err != nil {
		return fmt.Errorf("cut the log at %d: %w", index, err)
	}
	l.mu.Lock()
	l.mark = mark
	l.tail.dropUpTo(index)
	l.mu.Unlock()
	if !l.unflushed.mostlyCut(index, last) {
		return nil
	}
	l.unflushed = unflushed{least: l.unflushed.least, last: last}
	if err := l.db.BeginFlush(); err != nil {
		return fmt.Errorf("flush the log after the cut at %d: %w", index, err)
	}
	return nil
}

// change is one batch of the log. Nil fields stay as they are.
type change struct {
	identity   *storage.Identity
	hs         *HardState
	mark       *Mark // set: all entries before go too
	entries    []*raftpb.Entry
	overwrites bool // entries from the first new one on exist, or may
}

// commit writes the change and then shows it. REQUIRES: write is held.
func (l *Log) commit(c change, sync bool) error {
	if c.hs == nil && c.mark == nil && len(c.entries) == 0 {
		return nil
	}
	size := 128
	for _, e := range c.entries {
		size += 32 + len(e.GetData())
	}
	b := l.db.NewBatchSize(size)
	defer b.Close() //nolint:errcheck // gives memory back, nothing else
	if err := c.fill(b); err != nil {
		return err
	}
	if err := l.db.Commit(b, sync); err != nil {
		return fmt.Errorf("write the raft log: %w", err)
	}
	if sync {
		l.sealer.appended()
	}
	l.unflushed.bytes += b.Len()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.showLocked(c)
	return nil
}

func (c change) fill(b *storage.Batch) error {
	var errs []error
	if c.overwrites {
		from := entryKey(0)
		if c.mark == nil {
			from = entryKey(c.entries[0].GetIndex())
		}
		errs = append(errs, b.DeleteRange(from, entriesEnd, nil))
	}
	if c.identity != nil {
		errs = append(errs, b.Set(keyIdentity, c.identity.Encode(), nil))
	}
	if c.hs != nil {
		errs = append(errs, b.Set(keyHardState, c.hs.encode(), nil))
	}
	if c.mark != nil {
		errs = append(errs, b.Set(keyMark, c.mark.encode(), nil))
	}
	if last, ok := c.last(); ok {
		errs = append(errs, b.Set(keyLast, appendUvarints(nil, last), nil))
	}
	errs = append(errs, setEntries(b, c.entries))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("fill a batch of the raft log: %w", err)
	}
	return nil
}

// last returns the last index after the change, if the change sets it.
func (c change) last() (index uint64, ok bool) {
	if n := len(c.entries); n > 0 {
		return c.entries[n-1].GetIndex(), true
	}
	if c.mark != nil {
		return c.mark.Index, true
	}
	return 0, false
}

func (l *Log) showLocked(c change) {
	if c.identity != nil {
		l.identity, l.initialised = *c.identity, true
	}
	if c.hs != nil {
		l.hs = *c.hs
	}
	if c.mark != nil {
		l.mark = *c.mark
		l.tail.dropFrom(0)
	}
	if last, ok := c.last(); ok {
		l.last = last
	}
	l.tail.append(c.entries)
}

// checkRun checks that entries go up one by one from index.
func checkRun(index uint64, entries []*raftpb.Entry) error {
	for i, e := range entries {
		if e.GetIndex() != index+uint64(i) {
			return fmt.Errorf("%w: entry %d where %d belongs", errMisuse, e.GetIndex(), index+uint64(i))
		}
	}
	return nil
}

// flatten returns what several appends in a row leave: each that goes back overwrites what was before it. The
// result goes up one by one. It is the argument itself in the usual case.
func flatten(entries []*raftpb.Entry) ([]*raftpb.Entry, error) {
	if len(entries) == 0 || checkRun(entries[0].GetIndex(), entries) == nil {
		return entries, nil
	}
	var flat []*raftpb.Entry
	for _, e := range entries {
		at := e.GetIndex()
		if n := len(flat); n > 0 {
			first := flat[0].GetIndex()
			switch {
			case at > first+uint64(n):
				return nil, fmt.Errorf("%w: entry %d follows entry %d", errMisuse, at, first+uint64(n)-1)
			case at < first:
				flat = flat[:0]
			default:
				flat = flat[:at-first]
			}
		}
		flat = append(flat, e)
	}
	return flat, nil
}
