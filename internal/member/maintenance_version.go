package member

import (
	"context"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"github.com/ashlar-kv/ashlar/internal/version"
)

// versions is the loop that, on the leader, moves the cluster's version to where it should be: this release's, or the
// target of a downgrade that is under way. apply wakes it.
type versions struct {
	m    *Member
	wake chan struct{}
}

func (v *versions) init(m *Member) { v.m, v.wake = m, make(chan struct{}, 1) }

// notify tells the loop that a downgrade may have begun or ended. Apply calls it after each group.
func (v *versions) notify() {
	if v.settled() {
		return
	}
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// wanted returns the version that the cluster should have.
func (v *versions) wanted() string {
	if d := v.m.Members().Downgrade(); d.Enabled {
		return d.TargetVersion
	}
	return version.Cluster
}

// settled says whether the cluster has it.
func (v *versions) settled() bool { return v.m.Members().Version() == v.wanted() }

// step proposes the version, if this member leads and it is another.
func (v *versions) step(ctx context.Context) error {
	if !v.m.node.IsLeader() || v.settled() {
		return nil
	}
	return v.m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{
		ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: v.wanted()},
	})
}

// run goes on where publish ends: until the member is ready, that sets the version.
func (v *versions) run() {
	select {
	case <-v.m.ready:
	case <-v.m.stop:
		return
	}
	for {
		changed := v.m.node.LeaderChanged()
		if err := v.step(v.m.maintenance.ctx); err != nil {
			v.m.cfg.Logger.Warn("cannot set the cluster's version yet", "error", err)
			if !v.pause() {
				return
			}
			continue
		}
		select {
		case <-v.wake:
		case <-changed:
		case <-v.m.stop:
			return
		}
	}
}

// pause waits a little; false when the member stops first.
func (v *versions) pause() bool {
	timer := v.m.cfg.Clock.NewTimer(publishRetry)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-v.m.stop:
		return false
	}
}
