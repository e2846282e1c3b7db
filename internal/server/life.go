package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/version"
)

// life is a member from its opening to its end, with what it listens on and what serves its clients.
type life struct {
	cfg       *config.Config
	host      *lending
	log       *slog.Logger
	listeners listeners
	tls       *encryption
	peers     *peers
	member    *member.Member
	remotes   []cluster.Member // the other members that a new one was told of
	services  *services
	again     bool       // it is not the member's first start
	failed    chan error // the member's fatal error
}

// runOnce runs a member from its opening to its end.
func runOnce(ctx context.Context, host *lending, cfg config.Config, log *slog.Logger) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if cfg.MemoryMlock {
		if err := lockMemory(); err != nil {
			return err
		}
	}
	l, err := host.listenAll(ctx, &cfg)
	if err != nil {
		return err
	}
	e, err := encrypt(&cfg, log)
	if err != nil {
		return errors.Join(err, l.close())
	}
	requests, err := openAudit(&cfg, log)
	if err != nil {
		return errors.Join(err, l.close())
	}
	defer func() { err = also(err, requests.Close()) }()
	e.forPeers(l.peers)
	l.plain.encrypt(e)
	x := &life{cfg: &cfg, host: host, log: log, listeners: l, tls: e, again: cfg.Initialised(), failed: make(chan error, 1)}
	err = x.open(ctx)
	if errors.Is(err, member.ErrRemoved) {
		x.tellRemoved()
		return errors.Join(l.close(), x.peers.stop())
	}
	if err != nil {
		return errors.Join(x.unlessStopped(ctx, err), l.close(), x.peers.stop())
	}
	if err := x.check(ctx); err != nil {
		return errors.Join(x.unlessStopped(ctx, err), x.peers.stop(), x.member.Stop(), l.close())
	}
	x.peers.serve(x.member, x.remotes, l.peers, log)
	x.member.Start()
	if x.services, err = newServices(&cfg, x.member, host, x.peers.transport.Measures, requests, log); err != nil {
		return errors.Join(err, x.peers.stop(), x.member.Stop(), l.close())
	}
	defer func() { err = also(err, x.stop(ctx)) }()
	host.started(x.member)
	return x.serve(ctx)
}

// open opens the member and its way to the others. Until that has ended they are answered by nobody who knows anything (peer.Early).
func (x *life) open(ctx context.Context) (err error) {
	told := make(chan struct{}) // another member says that this one was removed
	x.peers = newPeers(x.cfg, x.host.Clock, x.log, func() { close(told) })
	x.peers.dialTLS(x.tls.dialing.Dialing(peerDialer(x.cfg)))
	x.peers.begin(x.listeners.peers, x.again, x.log)
	if x.member, x.remotes, err = openMember(ctx, x.host, x.cfg, x.log, x.peers, x.failed); err != nil {
		return err
	}
	go func() {
		select {
		case <-told:
			x.member.ToldRemoved()
		case <-ctx.Done():
		}
	}()
	return nil
}

// unlessStopped returns the error of a start, nil if it is that the member was to end meanwhile: that is a stop in order.
func (x *life) unlessStopped(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause == nil || !errors.Is(err, cause) {
		return err
	}
	x.log.Info("stopping")
	return nil
}

// check compares the state with those of the others before anybody is served, if that is wanted.
func (x *life) check(ctx context.Context) error {
	if !x.cfg.Gate(config.GateInitialCorruptCheck) || !x.again || x.member.Trusted() != nil { // one that is to be rebuilt is known to differ
		return nil
	}
	err := x.member.InitialCheck(ctx)
	if err != nil && ctx.Err() == nil {
		x.log.Error("checkInitialHashKV failed", "error", err)
	}
	return err
}

// serve serves clients from when the member is ready to its end, and says why it has ended unless that was in order.
func (x *life) serve(ctx context.Context) error {
	x.log.Info("starting", "name", x.cfg.Name, "member", cluster.ID(x.member.ID()).String(),
		"cluster", cluster.ID(x.member.ClusterID()).String(), "data-dir", x.cfg.DataDir,
		"version", version.Ashlar, "etcd-level", version.Etcd, "entries-to-replay", x.member.ToReplay())
	plain := &x.listeners.plain
	x.services.serveHTTP(x.services.metrics, plain.metrics...)
	for _, l := range plain.metrics {
		x.log.Info("serving metrics and health", "address", l.Addr().String())
	}
	if ready, err := x.awaitReady(ctx); !ready {
		return also(err, x.listeners.close())
	}
	x.services.serve(x.listeners.clients, x.tls.forClients, plain.clients)
	for _, l := range x.host.forLocal() {
		x.services.serveGRPC(l)
	}
	for _, l := range slices.Concat(x.listeners.clients, plain.clients) {
		x.log.Info("ready to serve client requests", "address", l.Addr().String())
	}
	x.host.serving(x.member)
	return x.awaitEnd(ctx)
}

// awaitReady waits until clients may be served. When the member ends before, ready is false, and err says why unless it ends in order.
func (x *life) awaitReady(ctx context.Context) (ready bool, err error) {
	select {
	case <-x.member.Ready():
		return true, nil
	case <-x.member.Removed():
		x.tellRemoved()
		return false, nil
	case err := <-x.failed:
		return false, err
	case err := <-x.services.broken:
		return false, fmt.Errorf("serve clients: %w", err)
	case err := <-x.peers.broken:
		return false, err
	case <-x.member.Rebuilt():
		return false, errRebuilt
	case <-ctx.Done():
		return false, nil
	}
}

// awaitEnd waits until the member that serves clients is to end, and says why unless it ends in order.
func (x *life) awaitEnd(ctx context.Context) error {
	select {
	case err := <-x.failed:
		return err
	case err := <-x.services.broken:
		return fmt.Errorf("serve clients: %w", err)
	case err := <-x.peers.broken:
		return err
	case <-x.member.Removed():
		linger(ctx)
		x.tellRemoved()
		return nil
	case <-x.member.Rebuilt():
		return errRebuilt
	case <-ctx.Done():
		x.log.Info("stopping")
		return nil
	}
}

// stop hands leadership over, unless the cause of ctx's end says that it is not to, and stops what runs.
func (x *life) stop(ctx context.Context) error {
	if context.Cause(ctx) != ErrNoHandOver { //nolint:errorlint // it is nobody's but ours
		x.member.HandOver(context.Background())
	}
	return errors.Join(x.services.stop(), x.peers.stop(), x.member.Stop())
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
func (x *life) tellRemoved() {
	x.host.removed()
	x.log.Warn("this member ends", "reason", member.ErrRemoved.Error())
	x.log.Warn("the data directory of a removed member must be removed before the member can be added anew", "data-dir", x.cfg.DataDir)
}
