package raftlog

import "fmt"

// Renew makes the log name another generation of the state, which has applied the entry given: one that the log holds, or the
// mark's. The entries stay. It is one synced record.
func (l *Log) Renew(generation, applied uint64) error {
	l.write.Lock()
	defer l.write.Unlock()
	now := l.now()
	if !now.initialised || applied < now.mark.Index || applied > now.last {
		return fmt.Errorf("%w: a state at entry %d for a log %s", errMisuse, applied, now)
	}
	mark := now.mark
	mark.Generation = generation
	if err := l.putLocked(record{kind: kindMark, mark: &mark}, true); err != nil {
		return fmt.Errorf("make the log name the state %d: %w", generation, err)
	}
	return nil
}
