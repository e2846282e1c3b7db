package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/consensus"
)

var (
	// ErrNotLeader is returned where only the leader can help and this member is not it.
	ErrNotLeader = errors.New("member: not leader")
	// ErrLearnerNotReady is returned when a learner is to be promoted whose log is too far
	// behind the leader's.
	ErrLearnerNotReady = errors.New("member: can only promote a learner member which is in sync with leader")
	// ErrBadTransferee is returned when leadership is to go to somebody who is no voter.
	ErrBadTransferee = errors.New("member: bad leader transferee")
	// ErrTransferTimeout is returned when another member did not become leader in time. It
	// may still happen.
	ErrTransferTimeout = errors.New("member: leader transfer took too long")
)

// readyPercent is how much of the leader's log a learner must have to be promoted.
const readyPercent = 90

// AddMember adds a member with the given peer URLs, which the caller has checked. It
// returns it as it was added. Errors are those of package cluster, ErrNotEnoughStarted,
// ErrUnhealthy, and those of Propose.
func (m *Member) AddMember(ctx context.Context, peerURLs []string, learner bool) (cluster.Member, error) {
	now := m.cfg.Clock.Now().Unix()
	x := cluster.Member{ID: cluster.MemberID(peerURLs, "", &now), PeerURLs: peerURLs, IsLearner: learner}
	if err := m.mayAdd(learner); err != nil {
		return cluster.Member{}, err
	}
	typ := raftpb.ConfChangeAddNode
	if learner {
		typ = raftpb.ConfChangeAddLearnerNode
	}
	return x, m.change(ctx, typ, &cluster.ConfChangeContext{Member: x})
}

// RemoveMember removes a member for good. Errors are as with AddMember.
func (m *Member) RemoveMember(ctx context.Context, id cluster.ID) error {
	if err := m.mayRemove(id); err != nil {
		return err
	}
	return m.change(ctx, raftpb.ConfChangeRemoveNode, &cluster.ConfChangeContext{Member: cluster.Member{ID: id}})
}

// UpdateMember gives a member other peer URLs. They are not checked, as in etcd. Errors
// are those of package cluster and of Propose.
func (m *Member) UpdateMember(ctx context.Context, id cluster.ID, peerURLs []string) error {
	return m.change(ctx, raftpb.ConfChangeUpdateNode,
		&cluster.ConfChangeContext{Member: cluster.Member{ID: id, PeerURLs: peerURLs}})
}

// PromoteMember makes a voter of a learner that has caught up. Only the leader knows
// whether it has: another member passes the request on. Errors are ErrNoLeader, ErrNotLeader, ErrLearnerNotReady and as with
// AddMember.
func (m *Member) PromoteMember(ctx context.Context, id cluster.ID) error {
	err := m.promoteHere(ctx, id)
	switch {
	case err == nil:
		m.measures.Promoted.Inc()
	case errors.Is(err, ErrLearnerNotReady), errors.Is(err, ErrNotEnoughStarted):
		m.measures.PromotionsRefused.Inc()
	}
	if errors.Is(err, ErrNotLeader) && m.others != nil {
		return m.promoteThere(ctx, id)
	}
	return err
}

// promoteHere is PromoteMember at the leader, or returns ErrNotLeader.
func (m *Member) promoteHere(ctx context.Context, id cluster.ID) error {
	if err := m.waitLeader(ctx); err != nil {
		return err
	}
	p, err := m.progress(ctx, uint64(id))
	switch {
	case err != nil:
		return err
	case !p.Known:
		return cluster.ErrIDNotFound
	case p.Match*100 < p.LeaderMatch*readyPercent:
		return ErrLearnerNotReady
	case m.cfg.StrictReconfigCheck && !m.Members().MayPromote():
		return ErrNotEnoughStarted
	}
	return m.change(ctx, raftpb.ConfChangeAddNode,
		&cluster.ConfChangeContext{Member: cluster.Member{ID: id}, IsPromote: true})
}

// change proposes a change of the configuration and waits until it is made here.
func (m *Member) change(ctx context.Context, typ raftpb.ConfChangeType, x *cluster.ConfChangeContext) error {
	p, err := m.BeginChange(typ, x)
	if err != nil {
		return err
	}
	_, err = p.wait(ctx)
	return err
}

// BeginChange proposes a change of the configuration, without any check and without
// waiting.
func (m *Member) BeginChange(typ raftpb.ConfChangeType, x *cluster.ConfChangeContext) (*Pending, error) {
	id := m.ids.next()
	cc := &raftpb.ConfChange{Id: proto.Uint64(id), Type: typ.Enum(), NodeId: proto.Uint64(uint64(x.ID))}
	if typ != raftpb.ConfChangeRemoveNode {
		var err error
		if cc.Context, err = json.Marshal(x); err != nil {
			return nil, fmt.Errorf("encode a configuration change: %w", err)
		}
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		return nil, fmt.Errorf("encode a configuration change: %w", err)
	}
	if uint64(len(data)) > m.cfg.MaxRequestBytes {
		return nil, ErrRequestTooLarge
	}
	return m.submit(id, 0, consensus.Proposal{Data: data, ConfChange: true})
}

// waitLeader returns once a leader is known, or ErrNoLeader after RequestTimeout.
func (m *Member) waitLeader(ctx context.Context) error {
	timer := m.cfg.Clock.NewTimer(m.cfg.RequestTimeout)
	defer timer.Stop()
	for {
		changed := m.node.LeaderChanged()
		if m.HasLeader() {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C():
			return ErrNoLeader
		case <-ctx.Done():
			return ctx.Err()
		case <-m.node.Done():
			return ErrStopped
		}
	}
}

// progress asks raft how far another member is.
func (m *Member) progress(ctx context.Context, id uint64) (consensus.Progress, error) {
	type answer struct {
		p      consensus.Progress
		leader bool
	}
	answered := make(chan answer, 1)
	m.node.AskProgress(id, func(p consensus.Progress, leader bool) { answered <- answer{p, leader} })
	select {
	case a := <-answered:
		if !a.leader {
			return a.p, ErrNotLeader
		}
		return a.p, nil
	case <-ctx.Done():
		return consensus.Progress{}, ctx.Err()
	case <-m.node.Done():
		return consensus.Progress{}, ErrStopped
	}
}

// TransferLeader gives leadership to another voter and returns once it has it. Errors
// are ErrNotLeader, ErrBadTransferee and ErrTransferTimeout.
func (m *Member) TransferLeader(ctx context.Context, to cluster.ID) error {
	if !m.node.IsLeader() {
		return ErrNotLeader
	}
	if x, ok := m.Members().Member(to); !ok || x.IsLearner {
		return ErrBadTransferee
	}
	timer := m.cfg.Clock.NewTimer(m.cfg.RequestTimeout)
	defer timer.Stop()
	m.node.TransferLeader(uint64(to)) // raft takes no notice when it leads already
	for {
		changed := m.node.LeaderChanged()
		if m.node.Leader() == uint64(to) {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C():
			return ErrTransferTimeout
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrTransferTimeout, ctx.Err())
		case <-m.node.Done():
			return ErrStopped
		}
	}
}
