package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/storage"
	"github.com/ashlar-kv/ashlar/internal/version"
)

func (g *group) setClusterVersion(raw []byte) error {
	var r membershippb.ClusterVersionSetRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := checkClusterVersion(r.GetVer()); err != nil {
		return err
	}
	return g.change().SetVersion(semver.New(r.GetVer()).String())
}

// checkClusterVersion refuses a text that is no version, and a version above ours.
func checkClusterVersion(text string) error {
	v, err := semver.NewVersion(text)
	if err != nil {
		return fmt.Errorf("%w: cluster version %q: %w", ErrMalformed, text, err)
	}
	if level := semver.New(version.Cluster); v.Major > level.Major || v.Major == level.Major && v.Minor > level.Minor {
		return fmt.Errorf("%w: it is %s, this release goes up to %s", ErrClusterVersion, v, level)
	}
	return nil
}

func (g *group) setMemberAttributes(raw []byte) error {
	var r membershippb.ClusterMemberAttrSetRequest
	if err := proto.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	a := r.GetMemberAttributes()
	return g.change().SetAttributes(cluster.ID(r.GetMember_ID()), a.GetName(), a.GetClientUrls())
}

var confStateKey = storage.AppendPlainKey(nil, storage.SpaceMeta, []byte("confstate"))

// LoadConfState reads the configuration that the state's applied index has. A new
// state has an empty one.
func LoadConfState(db *storage.DB) (*raftpb.ConfState, error) {
	cs := &raftpb.ConfState{}
	_, err := db.Get(confStateKey, func(b []byte) error {
		if err := proto.Unmarshal(b, cs); err != nil {
			return storage.Corruptf(db.Dir(), "the configuration cannot be read: %w", err)
		}
		return nil
	})
	return cs, err
}

// CheckConfChange decides a configuration entry, which must be the one after the last
// applied. A change that must be refused comes back with NodeId 0, which raft takes for
// no change. FinishConfChange must follow. An error is final.
func (m *Machine) CheckConfChange(e *raftpb.Entry) (*raftpb.ConfChange, error) {
	if applied, _ := m.store.Applied(); e.GetIndex() != applied+1 {
		return nil, fmt.Errorf("%w: configuration change %d where %d should follow", ErrGap, e.GetIndex(), applied+1)
	}
	cc := &raftpb.ConfChange{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	_, m.confRefused = m.judge(cc)
	switch {
	case errors.Is(m.confRefused, ErrMalformed), errors.Is(m.confRefused, ErrUnknownCommand):
		return nil, m.confRefused
	case m.confRefused != nil:
		cc.NodeId = proto.Uint64(0)
	}
	return cc, nil
}

// judge returns the change that cc makes to the membership, or why it is refused.
func (m *Machine) judge(cc *raftpb.ConfChange) (func(*cluster.Change) error, error) {
	id := cluster.ID(cc.GetNodeId())
	x, err := readConfChange(cc)
	if err != nil {
		return nil, err
	}
	switch cc.GetType() {
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
		if x.IsPromote {
			return func(c *cluster.Change) error { return c.Promote(id) }, m.members.CheckPromote(id)
		}
		learnersMax := m.learnersMax
		if cc.GetType() != raftpb.ConfChangeAddLearnerNode {
			learnersMax = math.MaxInt // as in etcd, which looks at both the entry's type and its context
		}
		return func(c *cluster.Change) error { return c.Add(x.Member) }, m.members.CheckAdd(x.Member, learnersMax)
	case raftpb.ConfChangeRemoveNode:
		return func(c *cluster.Change) error { return c.Remove(id) }, m.members.CheckRemove(id)
	case raftpb.ConfChangeUpdateNode:
		return func(c *cluster.Change) error { return c.UpdatePeerURLs(id, x.PeerURLs) }, m.members.CheckUpdate(x.Member)
	}
	return nil, unknownConfChange(cc)
}

func unknownConfChange(cc *raftpb.ConfChange) error {
	return fmt.Errorf("%w: configuration change of type %s", ErrUnknownCommand, cc.GetType())
}

// readConfChange returns the context of a change, and an error when the change cannot be read or is of an unknown type.
func readConfChange(cc *raftpb.ConfChange) (x cluster.ConfChangeContext, err error) {
	id := cluster.ID(cc.GetNodeId())
	switch cc.GetType() {
	case raftpb.ConfChangeRemoveNode:
		return x, nil
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeUpdateNode:
	default:
		return x, unknownConfChange(cc)
	}
	if err := json.Unmarshal(cc.GetContext(), &x); err != nil {
		return x, fmt.Errorf("%w: the context of a configuration change: %w", ErrMalformed, err)
	}
	if x.ID != id {
		return x, fmt.Errorf("%w: a configuration change of member %s with the context of %s", ErrMalformed, id, x.ID)
	}
	return x, nil
}

// FinishConfChange stores the effect of a checked configuration entry, together with
// the configuration cs that raft made of it. The result goes to the change's id.
func (m *Machine) FinishConfChange(e *raftpb.Entry, cc *raftpb.ConfChange, cs *raftpb.ConfState, done func(id uint64, r Result)) error {
	w := m.store.NewWriter()
	before, chained := w.Batch().Len(), m.chain.extend()
	// What the chain covers is the same on all members; the records that follow take its place.
	err := m.storeConfChange(w.Batch(), m.members.BeginUnnamed(w.Batch()), cc, cs)
	if err == nil {
		chained.entry(e.GetIndex(), e.GetTerm(), w.Revision(), w.CompactRevision(), effect(w.Batch(), before))
		err = chained.store(w.Batch())
	}
	change := m.members.Begin(w.Batch())
	if err == nil {
		err = m.storeConfChange(w.Batch(), change, cc, cs)
	}
	if err != nil {
		w.Discard()
		return err
	}
	w.SetApplied(e.GetIndex(), e.GetTerm())
	if err := w.Commit(); err != nil {
		return fmt.Errorf("commit configuration change %d: %w", e.GetIndex(), err)
	}
	chained.publish()
	change.Publish()
	done(cc.GetId(), Result{
		Index: e.GetIndex(), Term: e.GetTerm(), Revision: m.store.Revision(), Err: m.confRefused,
	})
	return nil
}

func (m *Machine) storeConfChange(b *storage.Batch, change *cluster.Change, cc *raftpb.ConfChange, cs *raftpb.ConfState) error {
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(cs)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	err = b.Set(confStateKey, encoded, nil)
	if m.confRefused == nil {
		set, jerr := m.judge(cc)
		if jerr != nil {
			return jerr
		}
		err = errors.Join(err, set(change))
	}
	return err
}
