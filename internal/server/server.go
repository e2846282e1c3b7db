// Package server assembles a member and its services: it opens listeners and
// storage, starts everything in order and stops it in the opposite one.
//
// Start: the client addresses are bound first, so that a port in use is told
// before any file is touched; then the member opens its directories and starts; requests
// are served once it is ready. Stop: no new connections, the requests under way end or
// are ended after a grace time, then the member, whose state is flushed.
//
// It holds no logic of its own: whatever needs a decision belongs into the room that
// the decision is about.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// requestTimeoutBase and two election timeouts are what etcd gives a request.
const requestTimeoutBase = 5 * time.Second

// Run runs a member until ctx is cancelled or the member fails. It returns nil
// after a graceful stop, and otherwise the reason.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) (err error) {
	listeners, err := listen(ctx, &cfg)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	m, err := openMember(&cfg, log, failed)
	if errors.Is(err, member.ErrRemoved) {
		tellRemoved(&cfg, log)
		return closeAll(listeners)
	}
	if err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	m.Start()
	s := newServices(&cfg, m, log)
	stop := sync.OnceValue(func() error { return errors.Join(s.stop(), m.Stop()) })
	defer func() { err = errors.Join(err, stop()) }()

	log.Info("starting", "name", cfg.Name, "member", cluster.ID(m.ID()).String(),
		"cluster", cluster.ID(m.ClusterID()).String(), "data-dir", cfg.DataDir,
		"version", version.Ashlar, "etcd-level", version.Etcd)
	select {
	case <-m.Ready():
	case <-m.Removed():
		tellRemoved(&cfg, log)
		return closeAll(listeners)
	case err := <-failed:
		return errors.Join(err, closeAll(listeners))
	case <-ctx.Done():
		return closeAll(listeners)
	}
	broken := s.serve(listeners)
	for _, l := range listeners {
		log.Info("ready to serve client requests", "address", l.Addr().String())
	}
	select {
	case err := <-failed:
		return err
	case err := <-broken:
		return fmt.Errorf("serve clients: %w", err)
	case <-m.Removed():
		linger(ctx)
		tellRemoved(&cfg, log)
		return nil
	case <-ctx.Done():
		log.Info("stopping")
		return nil
	}
}

// removedLinger is how long a member goes on after it was removed, as in etcd: who asked for it wants an answer, and the
// others may yet have to learn from this member that it is decided.
const removedLinger = time.Second

func linger(ctx context.Context) {
	timer := time.NewTimer(removedLinger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// tellRemoved logs the end of a member that was removed. It is no failure: whoever starts members again should leave it be.
func tellRemoved(cfg *config.Config, log *slog.Logger) {
	log.Warn("this member ends", "reason", member.ErrRemoved.Error())
	log.Warn("the data directory of a removed member must be removed before the member can be added anew", "data-dir", cfg.DataDir)
}

// openMember opens the member that cfg describes. Its first fatal error comes on
// failed.
func openMember(cfg *config.Config, log *slog.Logger, failed chan<- error) (*member.Member, error) {
	initial, err := cluster.ParseInitialCluster(cfg.InitialCluster)
	if err != nil {
		return nil, err
	}
	if initial.Len() > 1 {
		return nil, fmt.Errorf("--initial-cluster names %d members: clusters of more than one are not built yet", initial.Len())
	}
	return member.Open(member.Config{
		Name: cfg.Name, DataDir: cfg.DataDir, WALDir: cfg.WALDir,
		InitialCluster: initial, Token: cfg.InitialClusterToken,
		ClientURLs:   cfg.AdvertiseClientURLs.Strings(),
		TickInterval: cfg.HeartbeatInterval, ElectionTicks: cfg.ElectionTicks(), HeartbeatTicks: 1,
		PreVote:         cfg.PreVote,
		RequestTimeout:  requestTimeoutBase + 2*cfg.ElectionTimeout,
		MaxRequestBytes: uint64(cfg.MaxRequestBytes),
		MaxLearners:     cfg.MaxLearners, StrictReconfigCheck: cfg.StrictReconfigCheck,
		QuotaBytes:             cfg.Quota(),
		SnapshotCatchUpEntries: cfg.SnapshotCatchupEntries,
		SlowApply:              cfg.WarningApplyDuration,
		AutoCompaction:         member.AutoCompaction{Period: cfg.CompactPeriod, Revisions: cfg.CompactRevisions},
		LeaseCheckpoint:        cfg.Gate(config.GateLeaseCheckpoint),
		LeaseCheckpointPersist: cfg.Gate(config.GateLeaseCheckpointPersist),
		FastLeaseKeepAlive:     cfg.Gate(config.GateFastLeaseKeepAlive),
		NoSync:                 cfg.UnsafeNoFsync,
		Clock:                  clock.Real(),
		Logger:                 log,
		Fatal: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
}
