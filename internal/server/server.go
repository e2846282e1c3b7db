// Package server assembles a member and its services: it opens listeners and
// storage, starts everything in order and stops it in the opposite one.
//
// Start: the addresses are bound first, so that a port in use is told before any file is touched; a new member asks the others
// who it is; then the member opens its directories and starts; other members are served at once, clients once it is
// ready. Stop: leadership goes to another member, no new connections, the requests under way end or are ended after a
// grace time, then what connects the member to the others, and then the member itself, whose state is flushed.
//
// It holds no logic of its own: whatever needs a decision belongs into the room that
// the decision is about.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/takeover"
)

// requestTimeoutBase and two election timeouts are what etcd gives a request.
const requestTimeoutBase = 5 * time.Second

// RequestTimeout is how long the requests of a member with these settings may take.
func RequestTimeout(cfg *config.Config) time.Duration {
	return requestTimeoutBase + 2*cfg.ElectionTimeout
}

// ErrNoHandOver is the cause that, ending the context of a member that leads, makes it end without giving leadership to another one.
var ErrNoHandOver = errors.New("ended without handing leadership over")

// Run runs a member until ctx is cancelled or the member fails. It returns nil
// after a graceful stop, and otherwise the reason.
func Run(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	return RunIn(ctx, cfg, log, Host{})
}

// RunOn is Run with the member's two databases on another filesystem, which tests let fail or stand still.
func RunOn(ctx context.Context, fs vfs.FS, cfg config.Config, log *slog.Logger) error {
	return RunIn(ctx, cfg, log, Host{FS: fs})
}

// RunIn is Run in a program that takes part in it.
func RunIn(ctx context.Context, cfg config.Config, log *slog.Logger, h Host) (err error) {
	host := newLending(h)
	defer func() { err = also(err, host.close()) }()
	for {
		err := runOnce(ctx, host, cfg, log)
		// What went wrong with the end of a member is joined to it, and then it must not begin anew.
		if err != errRebuilt { //nolint:errorlint // see above
			return err
		}
		log.Info("starting anew with the rebuilt state")
	}
}

// errRebuilt is returned when a member is to be opened anew: its state was wrong, and is rebuilt.
var errRebuilt = errors.New("the state was rebuilt")

// also joins an error to another one, which stays what it is when there is none.
func also(err, more error) error {
	if more == nil {
		return err
	}
	return errors.Join(err, more)
}

// openMember opens the member that cfg describes, with the other members that a new one was told of. Its first fatal error
// comes on failed.
func openMember(ctx context.Context, host *lending, cfg *config.Config, log *slog.Logger, p *peers, failed chan<- error) (*member.Member, []cluster.Member, error) {
	if err := discover(ctx, cfg, net.DefaultResolver, log); err != nil {
		return nil, nil, err
	}
	initial, err := cluster.ParseInitialCluster(cfg.InitialCluster)
	if err != nil {
		return nil, nil, err
	}
	var join *member.Joining
	var remotes []cluster.Member
	if !cfg.Initialised() {
		if join, remotes, err = p.bootstrap(ctx, cfg, initial); err != nil {
			return nil, nil, err
		}
		if err := cluster.CheckLearners(remotes, cfg.MaxLearners); err != nil {
			return nil, nil, err
		}
	}
	mc := memberConfig(cfg, log, p, failed, initial, join)
	mc.FS, mc.Clock = host.FS, host.Clock
	if cfg.ForceNewCluster && cfg.Initialised() {
		if err := member.ForceNewCluster(mc); err != nil {
			return nil, nil, fmt.Errorf("--force-new-cluster: %w", err)
		}
	}
	m, err := member.Open(mc)
	if err != nil {
		return nil, nil, err
	}
	if err := cluster.CheckLearners(m.Members().Members(), cfg.MaxLearners); err != nil {
		return nil, nil, errors.Join(err, m.Stop())
	}
	return m, remotes, nil
}

func memberConfig(cfg *config.Config, log *slog.Logger, p *peers, failed chan<- error, initial cluster.InitialCluster, join *member.Joining) member.Config {
	return member.Config{
		Name: cfg.Name, DataDir: cfg.DataDir, WALDir: cfg.WALDir,
		Etcd:           &takeover.Place{DataDir: cfg.DataDir, WALDir: cfg.WALDir},
		InitialCluster: initial, Token: cfg.InitialClusterToken, Joining: join,
		ClientURLs:   cfg.AdvertiseClientURLs.Strings(),
		TickInterval: cfg.HeartbeatInterval, ElectionTicks: cfg.ElectionTicks(), HeartbeatTicks: 1,
		PreVote: cfg.PreVote, ElectionTickAdvance: cfg.InitialElectionTickAdvance,
		RequestTimeout:  RequestTimeout(cfg),
		MaxRequestBytes: uint64(cfg.MaxRequestBytes),
		AuthToken:       cfg.AuthToken,
		AuthTokenTTL:    time.Duration(min(cfg.AuthTokenTTL, math.MaxInt32)) * time.Second,
		BcryptCost:      int(min(cfg.BcryptCost, math.MaxInt32)),
		MaxLearners:     cfg.MaxLearners, StrictReconfigCheck: cfg.StrictReconfigCheck,
		QuotaBytes:             cfg.Quota(),
		SnapshotCatchUpEntries: cfg.SnapshotCatchupEntries,
		KeepLogForAbsent:       cfg.KeepsLogForAbsent(),
		SlowApply:              cfg.WarningApplyDuration,
		AutoCompaction:         member.AutoCompaction{Period: cfg.CompactPeriod, Revisions: cfg.CompactRevisions},
		LeaseCheckpoint:        cfg.Gate(config.GateLeaseCheckpoint),
		LeaseCheckpointPersist: cfg.Gate(config.GateLeaseCheckpointPersist),
		FastLeaseKeepAlive:     cfg.Gate(config.GateFastLeaseKeepAlive),
		CorruptCheckTime:       cfg.CorruptCheckTime,
		CompactHashCheckTime:   compactHashCheckTime(cfg),
		KeepCompactHashes:      cfg.Gate(config.GateCompactHashCheck),
		NoSync:                 cfg.UnsafeNoFsync,
		Logger:                 log,
		Fatal: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
		Send: p.transport.Send, SendSnapshot: p.transport.SendSnapshot, ActiveSince: p.transport.ActiveSince,
		MembersChanged: p.transport.SetMembers, HTTP: p.questions,
	}
}

// compactHashCheckTime is 0 unless the gate is open.
func compactHashCheckTime(cfg *config.Config) time.Duration {
	if !cfg.Gate(config.GateCompactHashCheck) {
		return 0
	}
	return cfg.CompactHashCheckTime
}
