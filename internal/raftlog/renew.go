package raftlog

import "fmt"

// Renew makes the log name another generation of the state, which has applied an entry that the log holds or the mark's. The
// entries stay. It is one synced batch.
func (l *Log) Renew(generation uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	if !l.Initialised() {
		return fmt.Errorf("%w: another state for a log that is not initialised", errMisuse)
	}
	mark := l.Mark()
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
