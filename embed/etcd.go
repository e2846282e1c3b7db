package embed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/test/bufconn"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/logging"
	"github.com/ashlar-kv/ashlar/internal/server"
)

// ErrRemoved comes from Err, and is returned by Start, when the member was removed from its cluster: its directory is of no more use.
var ErrRemoved = errors.New("embed: the member was removed from its cluster")

// Etcd is a member that runs, under the name that it has in etcd's package. Its methods may be called from any goroutine.
type Etcd struct {
	// Peers and Clients are the listeners, sorted by the URLs that they stand for.
	Peers, Clients []net.Listener
	// Server is what serves on them.
	Server *Server

	cfg   Config
	local *bufconn.Listener
	errs  chan error
}

// localBuffer is what a connection inside the process holds on its way, each way.
const localBuffer = 1 << 20

// StartEtcd is Start without a limit of time.
func StartEtcd(cfg *Config) (*Etcd, error) { return Start(context.Background(), cfg) }

// Start starts a member and returns once it runs: its addresses are bound, its files are open, and a member that joins has
// heard from the others who it is. Clients are served from ReadyNotify on, which takes a majority of the members. An error
// means that nothing runs and nothing is open, the caller's listeners included. ctx ends the attempt, not the member.
func Start(ctx context.Context, cfg *Config) (*Etcd, error) {
	given := slices.Concat(cfg.PeerListeners, cfg.ClientListeners)
	if cfg.ZapLoggerBuilder != nil {
		cfg = cfg.clone()
		if err := cfg.ZapLoggerBuilder(cfg); err != nil {
			return nil, errors.Join(fmt.Errorf("embed: %w", err), closeAll(given))
		}
	}
	c, err := cfg.validated()
	if err == nil && !c.Initialised() {
		if err = c.CheckBootstrap(ctx); err != nil {
			err = fmt.Errorf("embed: %w", err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, closeAll(given))
	}
	e := &Etcd{cfg: *cfg.clone(), local: bufconn.Listen(localBuffer), errs: make(chan error, 1)}
	e.cfg.Dir, e.cfg.InitialCluster = c.DataDir, c.InitialCluster
	if err := e.listen(ctx, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("embed: %w", err), closeAll(given))
	}
	log, files, err := openLog(cfg.SlogLogger, &c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embed: %w", err), closeAll(e.Peers), closeAll(e.Clients))
	}
	for _, n := range c.Notices {
		log.LogAttrs(ctx, n.Level, n.Message, n.Attrs...)
	}
	if err := e.run(ctx, c, log, files); err != nil {
		return nil, err
	}
	return e, nil
}

// run runs the member in a goroutine of its own, and returns when it runs or will not.
func (e *Etcd) run(ctx context.Context, c config.Config, log *slog.Logger, files io.Closer) error {
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	s := newServer(end)
	s.local, s.stopping = e.local, life.Done()
	s.features, s.requestTimeout = *e.cfg.ServerFeatureGate.DeepCopy(), server.RequestTimeout(&c)
	e.Server = s
	ended := make(chan error, 1)
	host := server.Host{Clients: e.Clients, Peers: e.Peers, Local: e.local,
		Handlers: e.cfg.UserHandlers, Register: e.cfg.ServiceRegister, Options: e.cfg.GRPCAdditionalServerOptions, Started: s.starts, Serving: s.serves, Removed: s.wasRemoved}
	go func() {
		defer end(nil)
		err := errors.Join(server.RunIn(life, c, log, host), files.Close())
		if err == nil && s.removed.Load() {
			err = ErrRemoved
		}
		s.leaders.wait()
		ended <- err
		if err != nil {
			e.errs <- err
		}
		close(e.errs)
		close(s.stopped)
	}()
	select {
	case <-s.started:
		return nil
	case err := <-ended:
		return failed(ctx, err)
	case <-ctx.Done():
		end(nil)
		return failed(ctx, <-ended)
	}
}

// failed is the error of a start that came to nothing.
func failed(ctx context.Context, err error) error {
	if err == nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, ErrRemoved) {
		return err
	}
	return fmt.Errorf("embed: the member does not start: %w", err)
}

// listen takes the caller's listeners, or makes those that are wanting.
func (e *Etcd) listen(ctx context.Context, c *config.Config) (err error) {
	if err := matched("PeerListeners", e.cfg.PeerListeners, e.cfg.ListenPeerUrls); err != nil {
		return err
	}
	if err := matched("ClientListeners", e.cfg.ClientListeners, e.cfg.ListenClientUrls); err != nil {
		return err
	}
	wanting := *c
	if e.cfg.PeerListeners != nil {
		wanting.ListenPeerURLs = nil
	}
	if e.cfg.ClientListeners != nil {
		wanting.ListenClientURLs = nil
	}
	if e.Clients, e.Peers, err = server.Listen(ctx, &wanting); err != nil {
		return err
	}
	if e.cfg.PeerListeners != nil {
		e.Peers, c.ListenPeerURLs = sorted(e.cfg.PeerListeners, e.cfg.ListenPeerUrls)
	}
	if e.cfg.ClientListeners != nil {
		e.Clients, c.ListenClientURLs = sorted(e.cfg.ClientListeners, e.cfg.ListenClientUrls)
	}
	return nil
}

func matched(field string, ls []net.Listener, urls []url.URL) error {
	if ls != nil && len(ls) != len(urls) {
		return fmt.Errorf("%s holds %d listeners for %d addresses", field, len(ls), len(urls))
	}
	return nil
}

// sorted brings listeners and the URLs that they stand for in the order of URLs that a configuration keeps.
func sorted(ls []net.Listener, urls []url.URL) ([]net.Listener, config.URLs) {
	order := make([]int, len(urls))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(urls[a].String(), urls[b].String()) })
	outListeners, outURLs := make([]net.Listener, len(ls)), make(config.URLs, len(urls))
	for i, from := range order {
		outListeners[i], outURLs[i] = ls[from], urls[from]
	}
	return outListeners, outURLs
}

// openLog returns the caller's log, or opens the one that the settings say. What it opens is closed by the closer.
func openLog(given *slog.Logger, c *config.Config) (*slog.Logger, io.Closer, error) {
	if given != nil {
		return given, io.NopCloser(nil), nil
	}
	o := server.LogOptions(c, os.Stdout, os.Stderr)
	o.Identifier = program
	return logging.Open(o)
}

func closeAll(ls []net.Listener) error {
	var errs []error
	for _, l := range ls {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Config returns the configuration that the member was started with, with the directory and the initial cluster that it chose itself.
func (e *Etcd) Config() Config { return *e.cfg.clone() }

// Err returns why the member ended by itself, or what went wrong while it was closed. It is closed after the member has ended; at
// most one error comes.
func (e *Etcd) Err() <-chan error { return e.errs }

// Close ends the member in good order and returns when it has ended. It may be called more than once.
func (e *Etcd) Close() { e.Server.Stop() }
