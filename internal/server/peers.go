package server

import (
	"context"
	"errors"
	"fmt"
	"iter"
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
	early     *peer.Early     // answers while the member is being opened
	server    *http.Server
	broken    chan error

	replayTimeout time.Duration // the constant; tests have less
}

func newPeers(cfg *config.Config, c clock.Clock, log *slog.Logger, removed func()) *peers {
	p := &peers{replayTimeout: replayTimeout, http: &http.Transport{
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

// begin serves the listeners for a member that is being opened, and that ran before or did not.
func (p *peers) begin(ls []net.Listener, ran bool, log *slog.Logger) {
	p.early = peer.NewEarly(ran)
	p.server = &http.Server{
		Handler:           p.early,
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
	}
}

// serve makes the transport one of the member, and has it answer at the listeners.
func (p *peers) serve(m *member.Member, remotes []cluster.Member, ls []net.Listener, log *slog.Logger) {
	p.transport.Start(peer.Identity{Member: m.ID(), Cluster: m.ClusterID()}, m.Node(), m.Answers())
	for _, x := range remotes {
		p.transport.AddRemote(uint64(x.ID), x.PeerURLs)
	}
	p.early.Open(p.transport.Handler())
	for _, l := range ls {
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
	p.early.End()
	return closed(p.server)
}

const (
	// bootstrapTimeout bounds how long another member may take to answer who is in the cluster.
	bootstrapTimeout = 5 * time.Second
	// replayTimeout is how long a new member waits for one that is being opened, or has to apply again first what was committed before it started,
	// replayRetry how often it asks that one.
	replayTimeout = time.Minute
	replayRetry   = 50 * time.Millisecond
)

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
	if cfg.Joins() {
		return p.join(ctx, cfg.Name, initial, urls)
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

// join asks the others for a cluster in which this member has a place; one that is behind may not know it yet. The place is refused
// when one of them knows that a member ran in it: its data were lost, and with them what it had promised. The others may have removed that one
// since, and have added another at its addresses, so the first place counts in which nobody ran.
func (p *peers) join(ctx context.Context, name string, initial []config.InitialMember, urls []string) (*member.Joining, []cluster.Member, error) {
	type place struct {
		j      *member.Joining
		others []cluster.Member
	}
	var places []place
	var unfit, unsure error
	ran := map[cluster.ID]bool{}
	silent := errors.New("no address of another member is known")
	for a := range p.askMembers(ctx, urls) {
		if a.replays {
			unsure = a.err
		}
		if a.err != nil {
			silent = a.err
			continue
		}
		for _, x := range a.members {
			ran[x.ID] = ran[x.ID] || len(x.ClientURLs) > 0
		}
		if j, others, err := joining(ctx, name, initial, a.cluster, a.members); err != nil {
			unfit = err
		} else {
			places = append(places, place{j, others})
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, notTold(err)
	}
	for _, x := range places {
		if ran[x.j.Member] {
			continue
		}
		if unsure != nil {
			return nil, nil, notSure(x.j.Member, unsure)
		}
		return x.j, x.others, nil
	}
	switch {
	case len(places) > 0:
		return nil, nil, fmt.Errorf("member %s has already been bootstrapped: its data were lost, so remove it and add it anew", places[0].j.Member)
	case unfit == nil:
		unfit = fmt.Errorf("cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs (%w)", silent)
	}
	return nil, nil, unfit
}

// refuseSecondBootstrap returns an error when one of the others knows this member as one that ran: its data were lost, and
// with them what it had promised. All are asked, since one of them may be so far behind that it knows nothing of it.
func (p *peers) refuseSecondBootstrap(ctx context.Context, self cluster.Member, id cluster.ID, urls []string) error {
	var unsure error
	for a := range p.askMembers(ctx, urls) {
		if a.replays && (a.cluster == uint64(id) || a.cluster == 0) {
			unsure = notSure(self.ID, a.err)
		}
		if a.err != nil || a.cluster != uint64(id) {
			continue // nobody is there yet, or they will say so themselves
		}
		i := slices.IndexFunc(a.members, func(x cluster.Member) bool { return x.ID == self.ID })
		if i >= 0 && len(a.members[i].ClientURLs) > 0 {
			return fmt.Errorf("member %s has already been bootstrapped", self.ID)
		}
	}
	if err := ctx.Err(); err != nil {
		return notTold(err)
	}
	return unsure
}

// notTold says that the member is to end before the others have said what they know. It must not make a data directory then: with one, the next start
// asks nobody.
func notTold(err error) error { return fmt.Errorf("asking the other members: %w", err) }

// notSure says that a member cannot be told whether it ran before.
func notSure(id cluster.ID, err error) error {
	return fmt.Errorf("it is not known yet whether member %s has already been bootstrapped, start it again when all others are up: %w", id, err)
}

// known is what a member says of its cluster.
type known struct {
	cluster uint64
	members []cluster.Member
	err     error
	replays bool // it was started not long ago, and has not said who ran although it may know that; cluster is 0 if it is being opened still
}

// askMembers yields what each address answers, in the order in which they do.
func (p *peers) askMembers(ctx context.Context, urls []string) iter.Seq[known] {
	return func(yield func(known) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		answers := make(chan known, len(urls))
		for _, u := range urls {
			go func() { answers <- p.askMember(ctx, u) }()
		}
		for range urls {
			if !yield(<-answers) {
				return
			}
		}
	}
}

// askMember asks one address, and again as long as the member there is being opened, or has to apply first what was committed before: after a crash
// of the whole cluster that is what all others do.
func (p *peers) askMember(ctx context.Context, url string) (a known) {
	for begin := time.Now(); ; {
		next := p.askOnce(ctx, url)
		if next.err == nil || !next.replays && !a.replays {
			return next
		}
		if next.replays { // or it has ended meanwhile, and may come back
			a = next
		}
		if time.Since(begin) >= p.replayTimeout {
			return a
		}
		again := time.NewTimer(replayRetry)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return a
		}
	}
}

func (p *peers) askOnce(ctx context.Context, url string) known {
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	id, all, err := (&peer.Client{HTTP: p.questions}).Members(ctx, []string{url})
	var r *peer.Refusal
	applies := id != 0 && errors.As(err, &r) && r.Status == http.StatusServiceUnavailable
	return known{id, all, err, applies || errors.Is(err, peer.ErrOpening)}
}

// joining finds the member called name among those that the others know, by its addresses. Names in addresses are looked up where
// texts differ, as in etcd.
func joining(ctx context.Context, name string, initial []config.InitialMember, clusterID uint64, others []cluster.Member) (*member.Joining, []cluster.Member, error) {
	if len(others) == 0 { // it has joined, too, and knows nobody yet
		return nil, nil, errors.New("cannot fetch cluster info from peer urls: failed to get raft cluster member(s) from the given URLs")
	}
	if len(initial) != len(others) {
		return nil, nil, fmt.Errorf("error validating peerURLs: member count is unequal: --initial-cluster has %d, the cluster %d",
			len(initial), len(others))
	}
	ctx, cancel := context.WithTimeout(ctx, bootstrapTimeout)
	defer cancel()
	j := &member.Joining{Cluster: cluster.ID(clusterID)}
	rest := slices.Clone(initial)
	for _, o := range others {
		var differ error
		i := slices.IndexFunc(rest, func(x config.InitialMember) bool {
			differ = config.SameAddresses(ctx, o.PeerURLs, x.PeerURLs)
			return differ == nil
		})
		if i < 0 {
			return nil, nil, fmt.Errorf("error validating peerURLs: PeerURLs: no match found for existing member (%s, %v), last resolver error (%w)",
				o.ID, o.PeerURLs, differ)
		}
		if rest[i].Name == name {
			j.Member = o.ID
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return j, others, nil
}
