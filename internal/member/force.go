package member

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/raftlog"
)

// ForceNewCluster makes a cluster of one of the data of a member whose cluster has lost its majority for good
// (--force-new-cluster): all that is in its log counts as committed, and the log goes on with the removal of all other members. It
// opens the member as Open does, talks to nobody, and closes it again; Open must follow. The steps and what a crash leaves stand
// in docs/decisions/recovery.md.
//
// For a member that is alone already it does nothing. It fails with ErrRemoved for one that was removed, and wraps ErrRefused for
// one that knows of no members; then nothing was changed.
func ForceNewCluster(cfg Config) (err error) {
	failed := make(chan error, 1)
	cfg.Fatal = func(err error) { failed <- err } // it is told at most once
	cfg.Send, cfg.SendSnapshot, cfg.ActiveSince, cfg.MembersChanged, cfg.HTTP = nil, nil, nil, nil, nil
	m, err := Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	m.replay()
	select {
	case err := <-failed:
		return err
	default:
	}
	m.node.Stop() // from here on the log belongs to forceAlone
	return m.forceAlone()
}

// replay applies what was committed before this start, in the caller's goroutine. It ends early when the node fails.
func (m *Member) replay() {
	for {
		select {
		case <-m.node.Replayed():
			return
		case <-m.node.Done():
			return
		default:
		}
		m.node.Turn()
		m.node.AppendTurn()
		m.node.ApplyTurn()
	}
}

// forceAlone commits what is in the log and removes all others behind it. REQUIRES: the node was stopped, with all that is known to
// be committed applied.
func (m *Member) forceAlone() error {
	g := m.gen.Load()
	if g.members.IsRemoved(m.self()) {
		return fmt.Errorf("%w: it cannot begin a new one", ErrRemoved)
	}
	self, known := g.members.Member(m.self())
	if !known {
		return fmt.Errorf("%w: %s knows of no members: it has joined a cluster and received nothing, so there is nothing to "+
			"begin a new cluster from", ErrRefused, m.cfg.DataDir)
	}
	if g.members.Len() == 1 && !self.IsLearner {
		m.cfg.Logger.Info("this member is a cluster of one already; nothing is forced", "member", self.ID.String())
		return nil
	}
	committed, last := m.node.Applied(), m.log.LastIndex()
	tail, err := m.withoutChanges(committed+1, last)
	if err != nil {
		return err
	}
	term := m.log.HardState().Term + 1
	changes, err := changesToBeAlone(g.members.Members(), self, last+1, term)
	if err != nil {
		return err
	}
	next := raftlog.HardState{Term: term, Vote: uint64(self.ID), Commit: last + uint64(len(changes))}
	if err := m.log.Append(&next, append(tail, changes...), true); err != nil {
		return fmt.Errorf("begin a new cluster: %w", err)
	}
	m.cfg.Logger.Warn("this member was made a cluster of one", "member", self.ID.String(), "members-removed", g.members.Len()-1,
		"known-committed", committed, "taken-as-committed", last)
	return nil
}

// forceReadBytes is about how much of the log is looked through at a time.
const forceReadBytes = 4 << 20

// withoutChanges looks through the entries from first to last. When there are changes of the membership among them it returns all
// from the first of those on, each change replaced by an empty entry; otherwise nothing.
func (m *Member) withoutChanges(first, last uint64) (out []*raftpb.Entry, err error) {
	for next := first; next <= last; {
		es, err := m.log.Entries(next, last+1, forceReadBytes)
		if err != nil {
			return nil, fmt.Errorf("read entry %d of the log: %w", next, err)
		}
		for _, e := range es {
			if e.GetType() != raftpb.EntryNormal {
				e = &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Term: e.Term, Index: e.Index}
				out = append(out, e)
			} else if len(out) > 0 {
				out = append(out, e)
			}
		}
		next += uint64(len(es))
	}
	return out, nil
}

// changesToBeAlone returns the entries, from an index on, that leave self as the only member, and a voter.
func changesToBeAlone(all []cluster.Member, self cluster.Member, index, term uint64) ([]*raftpb.Entry, error) {
	var changes []*raftpb.ConfChange
	if self.IsLearner {
		context, err := json.Marshal(cluster.ConfChangeContext{Member: self, IsPromote: true})
		if err != nil {
			return nil, fmt.Errorf("encode the promotion of this member: %w", err)
		}
		changes = append(changes, &raftpb.ConfChange{
			Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(uint64(self.ID)), Context: context,
		})
	}
	for _, x := range all {
		if x.ID != self.ID {
			changes = append(changes, &raftpb.ConfChange{
				Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(uint64(x.ID)),
			})
		}
	}
	entries := make([]*raftpb.Entry, len(changes))
	for i, c := range changes {
		data, err := proto.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("encode a change of the membership: %w", err)
		}
		entries[i] = &raftpb.Entry{
			Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(term),
			Index: proto.Uint64(index + uint64(i)), Data: data,
		}
	}
	return entries, nil
}
