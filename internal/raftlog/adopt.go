package raftlog

import (
	"fmt"

	"github.com/ashlar-kv/ashlar/internal/storage"
	"go.etcd.io/raft/v3/raftpb"
)

// Adoption fills a new log with the entries of another one. They are written as they come, so that memory is bounded, and are no
// log until Commit: a crash before it leaves the log uninitialised. It belongs to one goroutine.
type Adoption struct{ l *Log }

// Adopt begins an adoption. Whatever an earlier one has left is removed.
func (l *Log) Adopt() (*Adoption, error) {
	if l.Initialised() {
		return nil, fmt.Errorf("%w: adoption into a log that is initialised", errMisuse)
	}
	a := &Adoption{l}
	return a, a.Reset()
}

// Reset removes what is staged.
func (a *Adoption) Reset() error { return a.l.do(record{kind: kindStage}, false) }

// Add stages entries, which go up one by one from the index after the last, or from one that is staged: that one and all after
// it are replaced.
func (a *Adoption) Add(entries []*raftpb.Entry) error {
	entries, err := flatten(entries)
	if err != nil || len(entries) == 0 {
		return err
	}
	return a.l.do(record{kind: kindStage}.withEntries(entries), false)
}

// Commit makes the log of what is staged, which must begin after the mark, in one synced record: the commit point.
func (a *Adoption) Commit(id storage.Identity, hs HardState, m Mark) error {
	l := a.l
	l.write.Lock()
	defer l.write.Unlock()
	if err := l.putLocked(record{kind: kindAdopt, identity: &id, hs: &hs, mark: &m}, true); err != nil {
		return err
	}
	return l.keepLast()
}

// keepLast reads the last entry into the tail, which always holds it. REQUIRES: write is held.
func (l *Log) keepLast() error {
	now := l.now()
	if !now.initialised || now.last == now.mark.Index {
		return nil
	}
	entries, err := l.read(now.last, now.last+1, 0)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail.append(entries)
	return nil
}
