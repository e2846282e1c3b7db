package takeover

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
)

// Build writes the database's content into an empty state. It is not durable before the state is flushed.
func (s *Source) Build(ctx context.Context, db *storage.DB) error {
	if s.empty {
		return nil // everything is in the log
	}
	if err := s.db.Build(ctx, db, s.Index, s.Term, s.conf); err != nil {
		return refusef("its database: %w", err)
	}
	return s.reconcile(db)
}

// reconcile makes the members those of raft's configuration. etcd 3.5 took them from its v2 store, and some of its releases left
// others in the database.
func (s *Source) reconcile(db *storage.DB) (err error) {
	ms, err := cluster.Load(db)
	if err != nil {
		return err
	}
	if ms.IsRemoved(cluster.ID(s.MemberID)) {
		return refusef("it was removed from its cluster: add it anew, with an empty data directory")
	}
	b := db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	change := ms.Begin(b)
	for _, id := range members(s.conf) {
		m, known := ms.Member(id)
		if !known {
			if m, known = s.inV2(id); !known {
				return refusef("raft's configuration has the member %s, of which its database knows nothing", id)
			}
		}
		m.IsLearner = slices.Contains(s.conf.GetLearners(), uint64(id))
		if err := change.Add(m); err != nil {
			return err
		}
	}
	for _, m := range ms.Members() {
		if !slices.Contains(members(s.conf), m.ID) {
			if err := change.Remove(m.ID); err != nil {
				return err
			}
		}
	}
	if err := db.Commit(b); err != nil {
		return fmt.Errorf("write the members: %w", err)
	}
	change.Publish()
	return nil
}

// members returns all members of a configuration.
func members(conf *raftpb.ConfState) (ids []cluster.ID) {
	for _, id := range append(slices.Clone(conf.GetVoters()), conf.GetLearners()...) {
		ids = append(ids, cluster.ID(id))
	}
	return ids
}

// inV2 returns a member of the v2 store.
func (s *Source) inV2(id cluster.ID) (cluster.Member, bool) {
	if s.snap == nil {
		return cluster.Member{}, false
	}
	i := slices.IndexFunc(s.snap.Members, func(m cluster.Member) bool { return m.ID == id })
	if i < 0 {
		return cluster.Member{}, false
	}
	return s.snap.Members[i], true
}
