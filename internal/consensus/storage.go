package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	rafttracker "go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

type tracker = rafttracker.Progress

// logStorage is raft's view of the log. The raft loop alone calls it through
// raft; setConf comes from the raft and apply loops.
type logStorage struct {
	log     *raftlog.Log
	applied uint64 // at start
	now     *Node
	failed  error // the first that is not one of those that raft decides by; the raft loop's

	mu   sync.Mutex
	conf *raftpb.ConfState // of the newest applied configuration change
}

func (s *logStorage) setConf(cs *raftpb.ConfState) {
	s.mu.Lock()
	s.conf = cs
	s.mu.Unlock()
}

// InitialState returns the hard state with a commit index of at least the applied
// one, and the configuration found in the state at its durable applied index.
func (s *logStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hs := s.log.HardState()
	conf := s.conf
	if conf == nil {
		conf = &raftpb.ConfState{}
	}
	return &raftpb.HardState{
		Term: proto.Uint64(hs.Term), Vote: proto.Uint64(hs.Vote),
		Commit: proto.Uint64(max(hs.Commit, s.applied)),
	}, conf, nil
}

func (s *logStorage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	es, err := s.log.Entries(lo, hi, maxSize)
	return es, s.raftError(err)
}

func (s *logStorage) Term(i uint64) (uint64, error) {
	t, err := s.log.Term(i)
	return t, s.raftError(err)
}

func (s *logStorage) LastIndex() (uint64, error)  { return s.log.LastIndex(), nil }
func (s *logStorage) FirstIndex() (uint64, error) { return s.log.FirstIndex(), nil }

// Snapshot returns the metadata of the state as it is now. The state itself is
// read when the message is about to leave (StateMachine.SendSnapshot), and the
// metadata are brought up to date with it then.
func (s *logStorage) Snapshot() (*raftpb.Snapshot, error) {
	index := s.now.applied.Load()
	term, err := s.log.Term(index)
	s.mu.Lock()
	conf := s.conf
	s.mu.Unlock()
	if err != nil || index == 0 || conf == nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(index), Term: proto.Uint64(term), ConfState: conf,
	}}, nil
}

// raftError turns the log's sentinels into those that raft decides by. At any other error raft panics: Node.endUnread ends the node instead.
func (s *logStorage) raftError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftlog.ErrCompacted):
		return raft.ErrCompacted
	case errors.Is(err, raftlog.ErrUnavailable):
		return raft.ErrUnavailable
	default:
		if s.failed == nil {
			s.failed = err
		}
		return err
	}
}

func hex(id uint64) string { return strconv.FormatUint(id, 16) }

// raftLogger passes raft's messages to the member's log. raft's Fatal and Panic
// report broken invariants: going on could answer wrongly, so they panic.
type raftLogger struct{ l *slog.Logger }

func (r raftLogger) Debug(v ...any)                 { r.l.Debug(fmt.Sprint(v...)) }
func (r raftLogger) Debugf(format string, v ...any) { r.debugf(format, v...) }
func (r raftLogger) Info(v ...any)                  { r.l.Info(fmt.Sprint(v...)) }
func (r raftLogger) Infof(format string, v ...any)  { r.infof(format, v...) }
func (r raftLogger) Warning(v ...any)               { r.l.Warn(fmt.Sprint(v...)) }
func (r raftLogger) Warningf(f string, v ...any)    { r.l.Warn(fmt.Sprintf(f, v...)) }
func (r raftLogger) Error(v ...any)                 { r.l.Error(fmt.Sprint(v...)) }
func (r raftLogger) Errorf(f string, v ...any)      { r.l.Error(fmt.Sprintf(f, v...)) }
func (r raftLogger) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (r raftLogger) Fatalf(f string, v ...any)      { panic(fmt.Sprintf(f, v...)) }
func (r raftLogger) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (r raftLogger) Panicf(f string, v ...any)      { panic(fmt.Sprintf(f, v...)) }

// infof logs what raft is informed of. One thing it wonders at is usual with AsyncStorageWrites: of two writes that were
// under way together, the first may have answered for both.
func (r raftLogger) infof(format string, v ...any) {
	if strings.HasPrefix(format, "entry at index") {
		r.debugf(format, v...)
		return
	}
	r.l.Info(fmt.Sprintf(format, v...))
}

// debugf formats only when the line would be written: raft logs in its hot path.
func (r raftLogger) debugf(format string, v ...any) {
	if r.l.Enabled(context.Background(), slog.LevelDebug) {
		r.l.Debug(fmt.Sprintf(format, v...))
	}
}
