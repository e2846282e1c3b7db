package member

import (
	"context"
	"errors"
	"strings"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
)

var (
	// ErrDowngradeVersion is returned for a target that is no version.
	ErrDowngradeVersion = errors.New("member: wrong downgrade target version format")
	// ErrDowngradeTarget is returned for a target that is not one minor version below the cluster's.
	ErrDowngradeTarget = errors.New("member: invalid downgrade target version")
	// ErrDowngradeRunning is returned when a downgrade is to begin while one is under way.
	ErrDowngradeRunning = errors.New("member: cluster has a downgrade job in progress")
	// ErrVersionUnknown is returned while the cluster has not agreed on its version yet.
	ErrVersionUnknown = errors.New("member: cluster version not found during downgrade")
)

// ValidateDowngrade says whether a downgrade of the cluster to the target version could begin now. It returns the
// cluster's version, in short form ("3.7"), and one of the errors above or of ReadBarrier.
func (m *Member) ValidateDowngrade(ctx context.Context, target string) (clusterVersion string, err error) {
	clusterVersion, _, err = m.checkDowngrade(ctx, target)
	return clusterVersion, err
}

// EnableDowngrade begins a downgrade of the cluster to the target version: the leader lowers the cluster's version to
// it. It returns the cluster's version until then; errors are those of ValidateDowngrade and Propose.
func (m *Member) EnableDowngrade(ctx context.Context, target string) (clusterVersion string, err error) {
	clusterVersion, to, err := m.checkDowngrade(ctx, target)
	if err != nil {
		return "", err
	}
	return clusterVersion, m.proposeDowngrade(ctx, &membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: to.String()})
}

// CancelDowngrade ends a downgrade that is under way, if one is: the leader raises the cluster's version again. It
// returns the cluster's version until then.
func (m *Member) CancelDowngrade(ctx context.Context) (clusterVersion string, err error) {
	if err := m.ReadBarrier(ctx); err != nil {
		return "", err
	}
	current, err := m.clusterVersion()
	if err != nil || !m.Members().Downgrade().Enabled {
		return short(current), err
	}
	return short(current), m.proposeDowngrade(ctx, &membershippb.DowngradeInfoSetRequest{})
}

// checkDowngrade makes etcd's checks in etcd's order, and returns the cluster's version and the one to go to.
func (m *Member) checkDowngrade(ctx context.Context, target string) (string, semver.Version, error) {
	// "3.6" and "3.6.0" are both right.
	if strings.Count(target, ".") == 1 {
		target += ".0"
	}
	to, err := semver.NewVersion(target)
	if err != nil {
		return "", semver.Version{}, ErrDowngradeVersion
	}
	if err := m.ReadBarrier(ctx); err != nil {
		return "", semver.Version{}, err
	}
	current, err := m.clusterVersion()
	if err != nil {
		return "", semver.Version{}, err
	}
	// Patch levels and what follows them do not matter.
	below := semver.Version{Major: to.Major, Minor: to.Minor}
	if to.Major != current.Major || to.Minor != current.Minor-1 {
		return "", semver.Version{}, ErrDowngradeTarget
	}
	if m.Members().Downgrade().Enabled {
		return "", semver.Version{}, ErrDowngradeRunning
	}
	return short(current), below, nil
}

// clusterVersion returns the version that the cluster has agreed on.
func (m *Member) clusterVersion() (semver.Version, error) {
	v, err := semver.NewVersion(m.Members().Version())
	if err != nil {
		return semver.Version{}, ErrVersionUnknown
	}
	return *v, nil
}

// short returns a version without its patch level.
func short(v semver.Version) string {
	text := v.String()
	return text[:strings.LastIndexByte(text, '.')]
}

func (m *Member) proposeDowngrade(ctx context.Context, r *membershippb.DowngradeInfoSetRequest) error {
	return m.proposeInternal(ctx, &etcdserverpb.InternalRaftRequest{DowngradeInfoSet: r})
}
