package member

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/lease"
	"github.com/ashlar-kv/ashlar/internal/peer"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// Answers returns what other members are answered, with etcd's statuses and words. What comes from the state, and ends at a client
// of theirs, does not count while the state is known to be wrong.
func (m *Member) Answers() peer.Answers {
	return peer.Answers{
		ReceiveSnapshot: m.rebuild.noticing(m.ReceiveSnapshot),
		ReceiveDatabase: m.rebuild.noticing(m.ReceiveDatabase),
		Members:         m.answerMembers,
		Versions:        m.Versions,
		Promote:         m.answerPromote,
		HashKV:          m.answerHashKV,
		Chain:           m.answerChain,
		State:           m.answerState,
		RenewLease: func(ctx context.Context, id int64) (int64, error) {
			ttl, err := m.renewHere(ctx, id)
			return ttl, leaseRefusal(cmp.Or(m.Trusted(), err))
		},
		TimeToLive: func(ctx context.Context, id int64, keys bool) (peer.LeaseStatus, error) {
			term, _ := m.lessor.state()
			if term == 0 {
				return peer.LeaseStatus{}, ErrNotPrimary
			}
			st, err := m.statusHere(ctx, term, id, keys)
			return peer.LeaseStatus(st), leaseRefusal(cmp.Or(m.Trusted(), err))
		},
		DowngradeEnabled: func(ctx context.Context) (bool, error) {
			err := m.ReadBarrier(ctx)
			enabled := m.Members().Downgrade().Enabled
			return enabled, cmp.Or(m.Trusted(), err)
		},
	}
}

// errReplaying is told to who asks for the members before all that was committed is applied.
var errReplaying = errors.New("member: not all that was committed is applied again yet")

// answerMembers tells others who the members are: who is new takes its place among them, and who has lost its data is refused by it. After
// a crash the state on the disk may know nobody yet.
func (m *Member) answerMembers() (*cluster.Membership, error) {
	select {
	case <-m.node.Replayed():
		return m.Members(), nil
	default:
		return nil, errReplaying
	}
}

// leaseRefusal gives etcd's status and text to an error about a lease.
func leaseRefusal(err error) error {
	switch {
	case errors.Is(err, lease.ErrNotFound):
		return &peer.Refusal{Status: http.StatusNotFound, Text: "lease not found"}
	case errors.Is(err, ErrTimeout):
		return &peer.Refusal{Status: http.StatusRequestTimeout, Text: "lease HTTP: apply timeout"}
	}
	return err
}

// Versions are what this member tells everyone of its version, the cluster's and its storage's.
func (m *Member) Versions() peer.Versions {
	v := m.Members().Version()
	if v == "" {
		return peer.Versions{Server: version.Etcd, Cluster: "not_decided", Storage: version.Cluster}
	}
	return peer.Versions{Server: version.Etcd, Cluster: v, Storage: v}
}

func (m *Member) answerPromote(ctx context.Context, id uint64) ([]cluster.Member, error) {
	err := m.promoteHere(ctx, cluster.ID(id))
	switch {
	case errors.Is(err, cluster.ErrIDNotFound), errors.Is(err, cluster.ErrIDRemoved):
		return nil, &peer.Refusal{Status: http.StatusNotFound, Text: cluster.ErrIDNotFound.Error()}
	case errors.Is(err, cluster.ErrNotLearner):
		return nil, &peer.Refusal{Status: http.StatusPreconditionFailed, Text: cluster.ErrNotLearner.Error()}
	case errors.Is(err, ErrLearnerNotReady):
		return nil, &peer.Refusal{Status: http.StatusPreconditionFailed, Text: learnerNotReady}
	case err != nil:
		return nil, err
	}
	return m.Members().Members(), nil
}

func (m *Member) answerHashKV(ctx context.Context, revision int64) (peer.HashKV, error) {
	h, err := m.hashFor(ctx, revision, m.maintenance.hashing.members)
	if err != nil {
		return peer.HashKV{}, err
	}
	return peer.HashKV{
		Header: peer.HashKVHeader{Revision: m.Store().Revision()},
		Hash:   h.Hash, CompactRevision: h.Compact, HashRevision: h.Revision,
	}, nil
}
