package raftlog

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/storage"
)

// takeOverBytes is about how much of a log in Pebble is in memory while it is taken over.
const takeOverBytes = 4 << 20

// readPebble opens the log in Pebble for reading it as it is.
func (l *Log) readPebble(o storage.Options) error {
	old, err := openOld(l.dir, o)
	if err != nil || old == nil {
		return err
	}
	l.old, l.state = old, old.state
	return l.keepLast()
}

// takeOver makes the first segment of the log in Pebble. Pebble's files are left to be removed: once there is the guard, too,
// nothing reads them.
func (l *Log) takeOver(o storage.Options) (err error) {
	old, err := openOld(l.dir, o)
	if err != nil {
		return err
	}
	if old == nil {
		old = &oldLog{} // a crash while the database was created
	} else {
		defer func() { err = errors.Join(err, old.db.Close()) }()
		l.logger.Info("taking over the raft log of an earlier release", "dir", l.dir, "entries", old.state.last-old.state.mark.Index)
	}
	var empty state
	s, err := createSegment(l.fs, l.dir, 1, empty.begin(0), 0)
	if err != nil {
		return err
	}
	err = l.copyOld(s, old)
	if err == nil {
		err = s.keep(l.fs, l.dir)
	}
	return errors.Join(err, s.release())
}

// copyOld writes what is in the old log to the segment, and reads it again to compare.
func (l *Log) copyOld(s *segment, old *oldLog) error {
	if !old.state.initialised {
		return nil
	}
	var w writer
	for next := old.state.mark.Index + 1; next <= old.state.last; {
		var entries []*raftpb.Entry
		bytes := 0
		err := old.visit(next, old.state.last+1, func(e *raftpb.Entry) bool {
			entries = append(entries, e)
			bytes += memoryBytes(e)
			return bytes < takeOverBytes
		})
		if err != nil {
			return err
		}
		r := record{kind: kindStage}.withEntries(entries)
		if _, err := w.write(s, &r); err != nil {
			return err
		}
		next += r.count
	}
	r := record{kind: kindAdopt, identity: &old.state.identity, hs: &old.state.hs, mark: &old.state.mark}
	if _, err := w.write(s, &r); err != nil {
		return err
	}
	var again replay
	if _, err := again.segment(s, s.end); err != nil {
		return err
	}
	if again.state != old.state || again.index.covered() != firstOf(&old.state) {
		return fmt.Errorf("what was written is a log %s, and not one %s", again.state, old.state)
	}
	return nil
}

// firstOf is the index of the first entry; 0 when there is none.
func firstOf(s *state) uint64 {
	if s.last == s.mark.Index {
		return 0
	}
	return s.mark.Index + 1
}
