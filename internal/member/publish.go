package member

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/apply"
)

// publishRetry is how long a publication that failed waits before it is tried
// again.
const publishRetry = 500 * time.Millisecond

// publish tells the cluster this member's name and client URLs, and as the leader
// its version, through the log. Then the member is ready.
func (m *Member) publish() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-m.stop:
		case <-m.node.Done():
		case <-ctx.Done():
		}
		cancel()
	}()
	if !m.waitReplayed(ctx) {
		return
	}
	for {
		changed := m.node.LeaderChanged()
		err := m.publishOnce(ctx)
		if err == nil && m.published() {
			// A barrier has passed: all that was in the log is applied, also what the commit index on the disk did not
			// cover yet.
			m.Store().ForgetHashes()
			close(m.ready)
			return
		}
		if err != nil {
			m.cfg.Logger.Warn("cannot publish this member's attributes yet", "error", err)
		}
		retry := m.cfg.Clock.NewTimer(publishRetry)
		select {
		case <-retry.C():
		case <-changed:
		case <-m.versions.wake: // nobody else takes it before the member is ready
		case <-ctx.Done():
			retry.Stop()
			return
		}
		retry.Stop()
	}
}

// publishOnce proposes what is not in the membership yet.
func (m *Member) publishOnce(ctx context.Context) error {
	if err := m.ReadBarrier(ctx); err != nil {
		return err
	}
	if !m.attributesKnown() {
		err := m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{
			ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
				Member_ID: m.identity.MemberID,
				MemberAttributes: &membershippb.Attributes{
					Name: m.cfg.Name, ClientUrls: m.cfg.ClientURLs,
				},
			},
		})
		if err != nil {
			return err
		}
	}
	return m.versions.step(ctx)
}

// published says whether the membership has all that this member waits for.
func (m *Member) published() bool { return m.attributesKnown() && m.Members().Version() != "" }

func (m *Member) attributesKnown() bool {
	self, ok := m.Members().Member(m.self())
	return ok && self.Name == m.cfg.Name && slices.Equal(self.ClientURLs, m.cfg.ClientURLs)
}

// proposeInternal proposes a request that members make among themselves.
func (m *Member) proposeInternal(ctx context.Context, r *etcdserverpb.InternalRaftRequest) error {
	id := m.ids.next()
	r.Header = &etcdserverpb.RequestHeader{ID: id}
	data, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	_, cmd, _, err := apply.Decode(data)
	if err != nil {
		return err
	}
	p, err := m.begin(id, cmd, data)
	if err != nil {
		return err
	}
	_, err = p.wait(ctx)
	return err
}
