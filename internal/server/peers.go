package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

const (
	// peerDialTimeout bounds a dial to another member, peerKeepAlive is how often the kernel looks whether it is there.
	peerDialTimeout = 2 * time.Second
	peerKeepAlive   = 10 * time.Second
	// peerIdleConns are kept for questions to one member: a follower passes each renewal of a lease on.
	peerIdleConns = 32
)

func peerDialer(cfg *config.Config) *net.Dialer {
	d := &net.Dialer{Timeout: peerDialTimeout, KeepAlive: peerKeepAlive}
	if a := cfg.LocalAddr(); a.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	}
	return d
}

// peers is how a member and the others reach each other.
type peers struct {
	transport *peer.Transport
	http      *http.Transport // of raft's messages
	questions *http.Transport // of all else, so that neither waits for the other's connections
	server    *http.Server
	broken    chan error
}

func newPeers(cfg *config.Config, c clock.Clock, log *slog.Logger, removed func()) *peers {
	p := &peers{http: &http.Transport{
		DialContext:         peerDialer(cfg).DialContext,
		MaxIdleConnsPerHost: peerIdleConns,
		IdleConnTimeout:     idleTimeout,
		// Streams of appends are read in large pieces.
		ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		DisableCompression: true,
	}}
	p.questions = p.http.Clone()
	o := transportConfig(cfg, log)
	o.HTTP, o.Clock, o.Removed = p.http, c, removed
	p.transport = peer.New(o)
	return p
}

// transportConfig is what cfg says of the transport.
func transportConfig(cfg *config.Config, log *slog.Logger) peer.Config {
	return peer.Config{
		PeerURLs:    cfg.AdvertisePeerURLs.Strings(),
		ReadTimeout: cfg.RaftReadTimeout, WriteTimeout: cfg.RaftWriteTimeout, Logger: log.With("part", "peer"),
	}
}

// dialTLS says how addresses with https are dialed. REQUIRES: nothing was dialed yet.
func (p *peers) dialTLS(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	p.http.DialTLSContext, p.questions.DialTLSContext = dial, dial
}

// serve makes the transport one of the member and serves the listeners.
func (p *peers) serve(m *member.Member, remotes []cluster.Member, ls []net.Listener, log *slog.Logger) {
	p.transport.Start(peer.Identity{Member: m.ID(), Cluster: m.ClusterID()}, m.Node(), m.Answers())
	for _, x := range remotes {
		p.transport.AddRemote(uint64(x.ID), x.PeerURLs)
	}
	p.server = &http.Server{
		Handler:           p.transport.Handler(),
		ConnContext:       p.transport.ConnContext,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	p.broken = make(chan error, len(ls))
	for _, l := range ls {
		go func() {
			if err := p.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				p.broken <- fmt.Errorf("serve other members: %w", err)
			}
		}()
		log.Info("serving other members", "address", l.Addr().String())
	}
}

// stop ends all that goes on with other members.
func (p *peers) stop() error {
	p.transport.Close()
	p.http.CloseIdleConnections()
	p.questions.CloseIdleConnections()
	if p.server == nil {
		return nil
	}
	return p.server.Close()
}

// bootstrapTimeout bounds how long a new member asks the others who they are.
const bootstrapTimeout = 5 * time.Second

// bootstrap finds out what a new data directory is for: which member of which cluster, and who else is in it. It returns nil
// for a member of a new cluster.
func (p *peers) bootstrap(ctx context.Context, cfg *config.Config, ic cluster.InitialCluster) (*member.Joining, []cluster.Member, error) {
	initial, err := cfg.InitialMembers()
	if err != nil {
		return nil, nil, err
	}
	var urls []string
	for _, x := range initial {
		if x.Name != cfg.Name {
			urls = append(urls, x.PeerURLs...)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	if cfg.Joins() {
		clusterID, others, err := p.askMembers(ctx, urls)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot fetch cluster info from peer urls: "+
				"could not retrieve cluster information from the given URLs (%w)", err)
		}
		return joining(cfg.Name, initial, clusterID, others)
	}
	if len(urls) == 0 {
		return nil, nil, nil
	}
	founding, err := cluster.Found(ic, cfg.InitialClusterToken)
	if err != nil {
		return nil, nil, err
	}
	self, _ := founding.ByName(cfg.Name)
	return nil, nil, p.refuseSecondBootstrap(ctx, self, founding.ID(), urls)
}

// refuseSecondBootstrap returns an error when the others already know this member as one that ran: its data were lost, and
// with them what it had promised.
func (p *peers) refuseSecondBootstrap(ctx context.Context, self cluster.Member, id cluster.ID, urls []string) error {
	clusterID, others, err := p.askMembers(ctx, urls)
	if err != nil || clusterID != uint64(id) {
		return nil // nobody is there yet, or they will say so themselves
	}
	i := slices.IndexFunc(others, func(x cluster.Member) bool { return x.ID == self.ID })
	if i >= 0 && len(others[i].ClientURLs) > 0 {
		return fmt.Errorf("member %s has already been bootstrapped", self.ID)
	}
	return nil
}

// askMembers returns what the first member says that answers.
func (p *peers) askMembers(ctx context.Context, urls []string) (uint64, []cluster.Member, error) {
	type answer struct {
		id  uint64
		all []cluster.Member
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, len(urls))
	for _, u := range urls {
		go func() {
			id, all, err := (&peer.Client{HTTP: p.questions}).Members(ctx, []string{u})
			answers <- answer{id, all, err}
		}()
	}
	err := errors.New("no address of another member is known")
	for i := range urls {
		a := <-answers
		if a.err == nil {
			return a.id, a.all, nil
		}
		if i == 0 {
			err = a.err
		}
	}
	return 0, nil, err
}

// joining finds the member called name among those that the others know, by its addresses.
func joining(name string, initial []config.InitialMember, clusterID uint64, others []cluster.Member) (*member.Joining, []cluster.Member, error) {
	if len(initial) != len(others) {
		return nil, nil, fmt.Errorf("error validating peerURLs: member count is unequal: --initial-cluster has %d, the cluster %d",
			len(initial), len(others))
	}
	j := &member.Joining{Cluster: cluster.ID(clusterID)}
	for _, x := range initial {
		i := slices.IndexFunc(others, func(o cluster.Member) bool { return sameURLs(o.PeerURLs, x.PeerURLs) })
		if i < 0 {
			return nil, nil, fmt.Errorf("error validating peerURLs: unmatched member while checking PeerURLs: "+
				"the cluster has no member with %v", x.PeerURLs)
		}
		if x.Name == name {
			j.Member = others[i].ID
		}
	}
	return j, others, nil
}

func sameURLs(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
