package takeover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/etcdfile"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// ErrRefused is wrapped by errors that say why a member of etcd cannot be taken over; it was left as it is.
var ErrRefused = errors.New("takeover: this member of etcd cannot be taken over")

func refusef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// lowestVersion is the lowest cluster version that is taken over.
const lowestVersion = "3.5.0"

// Source is a member of etcd, locked.
type Source struct {
	place   Place
	claimed bool
	dir     string         // etcd's directory, under its present name
	lock    *etcdfile.File // the database that etcd locks
	db      *etcdfile.File // the one to read, which may be another

	log logSummary

	// ClusterID and MemberID say who the member is.
	ClusterID, MemberID uint64
	// Index and Term are those of the last entry in the database.
	Index, Term uint64
	empty       bool // the database holds nothing yet
	conf        *raftpb.ConfState
	snap        *etcdfile.RaftSnap // the newest that counts, nil when there is none
}

// Open locks the member in a place, in which Look found Member or Claimed, and reads who it is and how far. The caller closes it.
func Open(ctx context.Context, p Place, found Found) (*Source, error) {
	s := &Source{place: p, claimed: found == Claimed, dir: p.in(memberName)}
	if s.claimed {
		s.dir = p.in(takingName)
	} else if err := p.checkNothingTaken(); err != nil {
		return nil, err
	}
	if err := s.read(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Source) read(ctx context.Context) (err error) {
	if s.lock, err = etcdfile.Open(filepath.Join(s.dir, "snap", "db")); err != nil {
		return refusef("its database cannot be opened and locked (does etcd still run?): %w", err)
	}
	if err := s.log.read(ctx, s.walDir()); err != nil {
		return refusef("its log: %w", err)
	}
	s.MemberID, s.ClusterID = s.log.member, s.log.cluster
	for _, step := range []func() error{s.chooseDatabase, s.readMeta, s.readSnap, s.checkLog} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the lock back.
func (s *Source) Close() error {
	var errs []error
	if s.db != nil && s.db != s.lock {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

func (s *Source) walDir() string {
	if s.claimed {
		return s.place.walDir(takingName)
	}
	return s.place.walDir(memberName)
}

// Claim keeps etcd from ever starting on the member again. Everything should be checked before.
func (s *Source) Claim() error {
	if err := s.place.claim(); err != nil {
		return err
	}
	s.claimed = true
	return nil
}

// chooseDatabase finds the database that belongs to the log: a snapshot that was received may not be in its place yet.
func (s *Source) chooseDatabase() error {
	s.db = s.lock
	isNew, err := s.lock.IsNew()
	if err != nil {
		return refusef("its database: %w", err)
	}
	var index uint64
	if !isNew {
		meta, err := s.lock.Meta()
		if err != nil {
			return refusef("its database: %w", err)
		}
		index = meta.Index
	}
	newest := s.log.newestSnapshot()
	if index >= newest.Index {
		s.empty = isNew || index == 0
		return nil
	}
	path := filepath.Join(s.dir, "snap", fmt.Sprintf("%016x.snap.db", newest.Index))
	if _, err := os.Stat(path); err != nil {
		s.empty = isNew || index == 0
		return nil // checkLog finds out whether the log has what is missing
	}
	if s.db, err = etcdfile.Open(path); err != nil {
		return refusef("the database of the snapshot that it received: %w", err)
	}
	s.Index, s.Term, s.conf = newest.Index, newest.Term, newest.ConfState
	return nil
}

// readMeta reads how far the database is.
func (s *Source) readMeta() error {
	if s.empty {
		return nil
	}
	meta, err := s.db.Meta()
	if err != nil {
		return refusef("its database: %w", err)
	}
	for _, text := range []string{meta.ClusterVersion, meta.StorageVersion} {
		if err := checkVersion(text); err != nil {
			return err
		}
	}
	if s.db == s.lock {
		s.Index, s.Term = meta.Index, meta.Term
	}
	if meta.ConfState != nil {
		s.conf = meta.ConfState
	}
	return nil
}

func checkVersion(text string) error {
	if text == "" {
		return nil
	}
	v, err := semver.NewVersion(text)
	if err != nil {
		return refusef("its database: the version %q: %w", text, err)
	}
	if v.LessThan(*semver.New(lowestVersion)) {
		return refusef("it is of etcd %s: bring the cluster to etcd 3.5 or newer first", v)
	}
	if level := semver.New(version.Cluster); v.Major > level.Major || v.Major == level.Major && v.Minor > level.Minor {
		return refusef("it is of etcd %s, this release goes up to %s", v, level)
	}
	return nil
}

// readSnap reads the newest snapshot file that counts.
func (s *Source) readSnap() error {
	newest := s.log.newestSnapshot()
	if newest.Index == 0 {
		return nil
	}
	snap, err := etcdfile.ReadRaftSnap(filepath.Join(s.dir, "snap", etcdfile.RaftSnapName(newest.Term, newest.Index)))
	if errors.Is(err, os.ErrNotExist) {
		return nil // etcd 3.7 can do without
	}
	if err != nil {
		return refusef("%w", err)
	}
	if snap.HasKeys {
		return refusef("its v2 store holds keys, which etcd after 3.5 and Ashlar do not have")
	}
	s.snap = &snap
	if s.conf == nil && snap.Index == s.Index {
		s.conf = snap.ConfState
	}
	return nil
}

// checkLog checks that log and database fit together.
func (s *Source) checkLog() error {
	l := &s.log
	switch {
	case l.last < s.Index:
		return refusef("its database has applied entry %d, but its log ends at %d: they do not belong together", s.Index, l.last)
	case l.hs.GetCommit() > l.last:
		return refusef("entry %d is committed, but its log ends at %d", l.hs.GetCommit(), l.last)
	case !s.empty && s.conf == nil:
		return refusef("its database has no configuration of raft: start it with etcd 3.5 or newer once")
	case len(s.conf.GetVotersOutgoing()) > 0:
		return refusef("a joint configuration of raft is under way, which etcd never uses")
	}
	return nil
}

// HardState returns what raft must not forget. The commit is at least what the database holds.
func (s *Source) HardState() raftlog.HardState {
	hs := raftlog.HardState{Term: s.log.hs.GetTerm(), Vote: s.log.hs.GetVote(), Commit: max(s.log.hs.GetCommit(), s.Index)}
	if s.log.lastTerm > hs.Term {
		// Entries of a term that was not noted any more before a crash: no vote was given in it.
		hs.Term, hs.Vote = s.log.lastTerm, 0
	}
	return hs
}

// Last returns the index of the last entry.
func (s *Source) Last() uint64 { return s.log.last }
