package takeover

import (
	"context"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/apply"
	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// logSummary is what a first reading of etcd's log finds.
type logSummary struct {
	member, cluster uint64
	hs              *raftpb.HardState
	first           uint64 // index of the first entry, 0 when there is none
	last, lastTerm  uint64 // of the last entry, or of a snapshot that replaced it
	snaps           []etcdfile.WALSnapshot
}

func (l *logSummary) read(ctx context.Context, dir string) error {
	err := etcdfile.ReadWAL(ctx, dir, etcdfile.WALReader{
		Identity:  func(member, cluster uint64) error { l.member, l.cluster = member, cluster; return nil },
		HardState: func(hs *raftpb.HardState) error { l.hs = hs; return nil },
		Entry: func(e *raftpb.Entry) error {
			if l.first == 0 {
				l.first = e.GetIndex()
			}
			l.last, l.lastTerm = e.GetIndex(), e.GetTerm()
			return nil
		},
		Snapshot: func(s etcdfile.WALSnapshot) error { l.snaps = append(l.snaps, s); return nil },
	})
	if newest := l.newestSnapshot(); newest.Index > l.last {
		l.last, l.lastTerm = newest.Index, newest.Term
	}
	return err
}

// newestSnapshot returns the newest record of a snapshot that was committed. One that was not is left where etcd ended after it had written the
// record of a snapshot that it received, and before the hard state, without which raft does not know of it.
func (l *logSummary) newestSnapshot() (newest etcdfile.WALSnapshot) {
	for _, s := range l.snaps {
		if s.Index <= l.hs.GetCommit() && s.Index >= newest.Index {
			newest = s
		}
	}
	return newest
}

// stageBytesMax is about how much is staged in one batch.
const stageBytesMax = 4 << 20

// position is an entry's place.
type position struct{ index, term uint64 }

// stager stages the entries that the new log has.
type stager struct {
	to      *raftlog.Adoption
	from    uint64 // entries from here on are wanted
	applied uint64 // entries above this one will be applied
	commit  uint64 // snapshots above this entry do not count

	mark  position // the one before the first that is staged
	begun bool
	last  position   // of all that were read
	snap  position   // of the last record of a snapshot
	terms []position // where terms begin in what is staged

	batch []*raftpb.Entry
	bytes int
}

func newStager(to *raftlog.Adoption, applied, commit, catchUp uint64) *stager {
	st := &stager{to: to, applied: applied, commit: commit}
	if applied > catchUp {
		st.from = applied - catchUp + 1
	}
	return st
}

// Stage stages the entries above the database, and up to catchUp of those below it, and returns the mark that they begin after.
func (s *Source) Stage(ctx context.Context, to *raftlog.Adoption, catchUp uint64) (raftlog.Mark, error) {
	st := newStager(to, s.Index, s.HardState().Commit, catchUp)
	if err := etcdfile.ReadWAL(ctx, s.walDir(), etcdfile.WALReader{Entry: st.entry, Snapshot: st.snapshot}); err != nil {
		return raftlog.Mark{}, refusef("its log: %w", err)
	}
	mark, err := st.finish(s.Term)
	if err != nil {
		return raftlog.Mark{}, refusef("%w", err)
	}
	return mark, nil
}

// finish stages what is left and checks that it goes on from the database, whose last entry has the term given; 0 is an
// unknown one.
func (st *stager) finish(term uint64) (raftlog.Mark, error) {
	if err := st.flush(); err != nil {
		return raftlog.Mark{}, err
	}
	if !st.begun {
		if st.mark = st.last; st.snap.index == st.applied {
			st.mark = st.snap
		}
	}
	switch {
	case st.last.index < st.applied || !st.begun && st.mark.index != st.applied:
		return raftlog.Mark{}, fmt.Errorf("its database has applied entry %d, but its log ends at %d", st.applied, st.last.index)
	case st.mark.index > st.applied:
		return raftlog.Mark{}, fmt.Errorf("its database has applied entry %d, but its log begins after %d: entries in between are missing",
			st.applied, st.mark.index)
	}
	if got := st.termAt(st.applied); term != 0 && got != term {
		return raftlog.Mark{}, fmt.Errorf("entry %d has the term %d in its database, and %d in its log", st.applied, term, got)
	}
	return raftlog.Mark{Index: st.mark.index, Term: st.mark.term}, nil
}

// entry takes the next entry of etcd's log.
func (st *stager) entry(e *raftpb.Entry) error {
	at := e.GetIndex()
	switch {
	case at == 0 || at > st.last.index+1 && st.last != (position{}):
		return fmt.Errorf("%w: entry %d follows entry %d", etcdfile.ErrCorruptWAL, at, st.last.index)
	case st.begun && at <= st.mark.index:
		if err := st.reset(); err != nil {
			return err
		}
	}
	before := st.last
	if st.snap.index+1 == at {
		before = st.snap // which may have replaced entries behind it, too
	}
	st.last = position{at, e.GetTerm()}
	if !st.begun {
		// The term of the one before must be known.
		if at < st.from || before.index+1 != at {
			return nil
		}
		st.begun, st.mark, st.terms = true, before, nil
	}
	if at > st.applied {
		if err := apply.Acceptable(e); err != nil {
			return err
		}
	}
	for len(st.terms) > 0 && st.terms[len(st.terms)-1].index >= at {
		st.terms = st.terms[:len(st.terms)-1]
	}
	if n := len(st.terms); n == 0 || st.terms[n-1].term != e.GetTerm() {
		st.terms = append(st.terms, st.last)
	}
	st.batch = append(st.batch, e)
	if st.bytes += len(e.GetData()) + 64; st.bytes >= stageBytesMax {
		return st.flush()
	}
	return nil
}

// snapshot takes a record of a snapshot. One that was received stands in the place of the entries up to it, unless they are
// those that it was made of.
func (st *stager) snapshot(s etcdfile.WALSnapshot) error {
	if s.Index > st.commit {
		return nil
	}
	st.snap = position{s.Index, s.Term}
	ours := st.begun && s.Index >= st.mark.index && s.Index <= st.last.index && st.termAt(s.Index) == s.Term
	if ours || !st.begun && s.Index < st.last.index || st.begun && s.Index < st.mark.index {
		return nil
	}
	if err := st.reset(); err != nil {
		return err
	}
	st.last = st.snap
	return nil
}

// termAt returns the term of the entry at an index that is staged or the mark.
func (st *stager) termAt(index uint64) uint64 {
	term := st.mark.term
	for _, p := range st.terms {
		if p.index > index {
			break
		}
		term = p.term
	}
	return term
}

func (st *stager) reset() error {
	st.begun, st.terms = false, nil
	st.batch, st.bytes = nil, 0
	return st.to.Reset()
}

func (st *stager) flush() error {
	err := st.to.Add(st.batch)
	st.batch, st.bytes = nil, 0
	return err
}
