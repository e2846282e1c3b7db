package member

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/cluster"
)

// waitVersion waits until the cluster has a version. Each barrier is a turn of all loops.
func waitVersion(t *testing.T, m *Member, want string) {
	t.Helper()
	for m.Members().Version() != want {
		if err := m.ReadBarrier(t.Context()); err != nil {
			t.Fatalf("the cluster's version is %s, want %s: %v", m.Members().Version(), want, err)
		}
	}
}

func TestDowngradeFollowsEtcdsChecks(t *testing.T) {
	t.Parallel()
	m := start(t, configOf(t, vfs.NewMem(), alone))
	defer stop(t, m)
	for _, c := range []struct {
		target string
		err    error
	}{
		{"", ErrDowngradeVersion},
		{"bad", ErrDowngradeVersion},
		{"3", ErrDowngradeVersion},
		{"3.6.", ErrDowngradeVersion},
		{"v3.6.0", ErrDowngradeVersion},
		{" 3.6.0", ErrDowngradeVersion},
		{"3.6.0.1", ErrDowngradeVersion},
		{"3.6-rc1", ErrDowngradeVersion},
		{"3.7.0", ErrDowngradeTarget},
		{"3.5.0", ErrDowngradeTarget},
		{"3.8.0", ErrDowngradeTarget},
		{"2.6.0", ErrDowngradeTarget},
		{"4.6.0", ErrDowngradeTarget},
		{"3.6", nil},
		{"3.6.99", nil},
		{"3.6.0-rc1", nil},
	} {
		version, err := m.ValidateDowngrade(t.Context(), c.target)
		if !errors.Is(err, c.err) || err == nil && version != "3.7" {
			t.Errorf("%q: got %q, %v; want %v", c.target, version, err, c.err)
		}
	}
	if version, err := m.CancelDowngrade(t.Context()); err != nil || version != "3.7" {
		t.Errorf("cancelling none: got %q, %v", version, err)
	}
}

func TestDowngradeMovesTheClustersVersionAndBack(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	m := start(t, configOf(t, disk, alone))
	if version, err := m.EnableDowngrade(t.Context(), "3.6.7"); err != nil || version != "3.7" {
		t.Fatalf("enable: %q, %v", version, err)
	}
	running := cluster.Downgrade{TargetVersion: "3.6.0", Enabled: true}
	if got := m.Members().Downgrade(); got != running {
		t.Errorf("after enable: %+v", got)
	}
	waitVersion(t, m, "3.6.0")
	for target, want := range map[string]error{"3.6.0": ErrDowngradeTarget, "3.5.0": ErrDowngradeRunning} {
		if _, err := m.EnableDowngrade(t.Context(), target); !errors.Is(err, want) {
			t.Errorf("a second one to %s: %v, want %v", target, err, want)
		}
	}
	stop(t, m)

	m = start(t, configOf(t, disk, alone))
	if got := m.Members().Downgrade(); got != running || m.Members().Version() != "3.6.0" {
		t.Errorf("after a restart: %+v, version %s", got, m.Members().Version())
	}
	if version, err := m.CancelDowngrade(t.Context()); err != nil || version != "3.6" {
		t.Errorf("cancel: %q, %v", version, err)
	}
	waitVersion(t, m, "3.7.0")
	if got := m.Members().Downgrade(); got != (cluster.Downgrade{}) {
		t.Errorf("after cancel: %+v", got)
	}
	stop(t, m)
}
