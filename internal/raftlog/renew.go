package raftlog

import "fmt"

// Renew makes the log name another generation of the state, which has applied the entry given: one that the log holds, or the
// mark's. The entries stay. It is one synced batch.
func (l *Log) Renew(generation, applied uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	mark := l.Mark()
	if last := l.LastIndex(); !l.Initialised() || applied < mark.Index || applied > last {
		return fmt.Errorf("%w: a state at entry %d for a log with the mark %d and the last entry %d", errMisuse, applied, mark.Index, last)
	}
	mark.Generation = generation
	b := l.db.NewBatch()
	defer b.Close() //nolint:errcheck // gives memory back, nothing else
	if err := b.Set(keyMark, mark.encode(), nil); err != nil {
		return fmt.Errorf("make the log name the state %d: %w", generation, err)
	}
	if err := l.db.Commit(b, true); err != nil {
		return fmt.Errorf("make the log name the state %d: %w", generation, err)
	}
	l.sealer.appended()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mark = mark
	return nil
}
