package member

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/version"
)

const (
	// versionsEvery is how often the leader looks at the members' versions, as in etcd.
	versionsEvery = 4 * time.Second
	// versionsTimeout bounds how long one may take to answer.
	versionsTimeout = 2 * time.Second
	// versionUndecided is the cluster's version while not all members have told theirs, as in etcd.
	versionUndecided = "3.0.0"
)

// versions is the loop that, on the leader, moves the cluster's version to where it should be: the lowest of the members'
// releases, or the target of a downgrade that is under way. It looks when the leader changes and every few seconds, as etcd
// does: so a downgrade can be cancelled in its first moments without anything having happened. Only until the member is
// ready does apply wake it.
type versions struct {
	m    *Member
	wake chan struct{}
	// common is the version that all members can work at, "" while not all have told theirs.
	common atomic.Pointer[string]
}

func (v *versions) init(m *Member) {
	v.m, v.wake = m, make(chan struct{}, 1)
	v.common.Store(new(string))
}

// notify tells publish that something was applied. Apply calls it after each group.
func (v *versions) notify() {
	select {
	case <-v.m.ready:
	default:
		v.ask()
	}
}

// ask makes publish, or the loop, look again.
func (v *versions) ask() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// wanted returns the version that the cluster should have: it only rises, but for a downgrade.
func (v *versions) wanted() string {
	if d := v.m.Members().Downgrade(); d.Enabled {
		return d.TargetVersion
	}
	now, common := v.m.Members().Version(), *v.common.Load()
	switch {
	case common == "" && now == "":
		return versionUndecided
	case common == now:
		return now
	case common == "" || now != "" && semver.New(common).LessThan(*semver.New(now)):
		return now
	}
	return common
}

// settled says whether the cluster has it.
func (v *versions) settled() bool { return v.m.Members().Version() == v.wanted() }

// step proposes the version, if this member leads and it is another.
func (v *versions) step(ctx context.Context) error {
	if !v.m.node.IsLeader() {
		return nil
	}
	v.poll(ctx)
	if v.settled() {
		return nil
	}
	return v.m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{
		ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: v.wanted()},
	})
}

// poll asks all members for their versions.
func (v *versions) poll(ctx context.Context) {
	all := v.m.Members().Members()
	told := make([]*semver.Version, len(all))
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, x := range all {
		if x.ID == v.m.self() {
			told[i] = semver.New(version.Etcd)
			continue
		}
		wg.Go(func() { told[i] = v.versionOf(ctx, x) })
	}
	wg.Wait()
	lowest := ""
	if len(told) > 0 {
		lowest = lowestMinor(told)
	}
	v.common.Store(&lowest)
}

// versionOf asks a member, and returns nil when it does not say.
func (v *versions) versionOf(ctx context.Context, x cluster.Member) *semver.Version {
	if v.m.others == nil {
		return semver.New(version.Etcd) // nobody can be asked; only tests and the simulator have such members
	}
	told, err := v.m.others.Versions(ctx, x.PeerURLs)
	if err != nil {
		v.m.cfg.Logger.Debug("cannot get a member's version", "member", x.ID.String(), "error", err)
		return nil
	}
	at, err := semver.NewVersion(told.Server)
	if err != nil {
		v.m.cfg.Logger.Warn("a member tells a version that is none", "member", x.ID.String(), "version", told.Server)
		return nil
	}
	return at
}

// lowestMinor returns the lowest version without its patch level, at most this release's, and "" when one is not known.
func lowestMinor(all []*semver.Version) string {
	low := semver.New(version.Cluster)
	for _, v := range all {
		if v == nil {
			return ""
		}
		if at := (semver.Version{Major: v.Major, Minor: v.Minor}); at.LessThan(*low) {
			low = &at
		}
	}
	return low.String()
}

// run goes on where publish ends: until the member is ready, that sets the version.
func (v *versions) run() {
	select {
	case <-v.m.ready:
	case <-v.m.stop:
		return
	}
	ticker := v.m.cfg.Clock.NewTicker(versionsEvery)
	defer ticker.Stop()
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
		case <-ticker.C():
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
