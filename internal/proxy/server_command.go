package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/tlsconf"
)

// proxySettings are the flags of `grpc-proxy start`.
type proxySettings struct {
	found              discovered
	server             serverSettings
	upstream           upstreamSettings
	listen, metrics    string
	debug, autoTLS     bool
	dataDir            string
	validity           uint
	minTLS, maxTLS     string
	suites             []string
	cert, key, ca, crl string // towards clients
	upCert, upKey      string // towards members
	skipVerify         bool
}

func (p Process) proxyCommand() *cobra.Command {
	s := &proxySettings{found: discovered{resolver: p.resolver()}}
	start := &cobra.Command{
		Use: "start", Short: "start the grpc proxy", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runProxy(cmd.Context(), s) },
	}
	s.bindServing(start.Flags())
	s.bindUpstream(start.Flags())
	s.bindTLS(start.Flags())
	group := &cobra.Command{Use: "grpc-proxy", Short: "grpc-proxy related command"}
	group.AddCommand(start)
	return group
}

func (s *proxySettings) bindServing(f *pflag.FlagSet) {
	v := &s.server
	f.StringVar(&s.listen, "listen-addr", "127.0.0.1:23790", "listen address")
	f.StringVar(&s.metrics, "metrics-addr", "", "listen for endpoint /metrics requests on an additional interface")
	f.StringVar(&v.advertise, "advertise-client-url", "127.0.0.1:23790", "address to register, at which clients reach the proxy")
	f.StringVar(&v.prefix, "resolver-prefix", "", "prefix to register the proxy at, shared with other proxies")
	f.Int64Var(&v.ttl, "resolver-ttl", 0, "seconds after which a registered proxy that is gone is forgotten")
	f.StringVar((*string)(&v.space), "namespace", "", "prefix of all keys of requests")
	f.BoolVar(&v.pages.profiles, "enable-pprof", false, "serve profiles at the client address + \"/debug/pprof/\"")
	f.StringVar(&s.dataDir, "data-dir", "default.proxy", "directory of the certificate that --auto-tls makes")
	f.Uint32Var(&v.streamsMax, "max-concurrent-streams", math.MaxUint32, "requests that each client may have under way on one connection")
	f.DurationVar(&v.pingMin, "grpc-keepalive-min-time", 5*time.Second, "time that a client must wait before it pings")
	f.DurationVar(&v.pingTime, "grpc-keepalive-interval", 2*time.Hour, "time after which a silent client is pinged (0 to disable)")
	f.DurationVar(&v.pingTimeout, "grpc-keepalive-timeout", 20*time.Second, "time limit for the answer to such a ping (0 to disable)")
	f.BoolVar(&v.ordering, "experimental-serializable-ordering", false, "serializable reads never answer an older revision than one answered before")
	f.StringVar(&v.titles, "experimental-leasing-prefix", "", "prefix, shared with all who write, below which the proxy takes possession of keys to answer linearizable reads itself")
	f.BoolVar(&v.logRequests, "experimental-enable-grpc-logging", false, "log all requests and what came of them")
	f.BoolVar(&s.debug, "debug", false, "log at debug level")
}

func (s *proxySettings) bindUpstream(f *pflag.FlagSet) {
	u := &s.upstream
	f.StringVar(&s.found.domain, "discovery-srv", "", "DNS domain whose SRV records name the endpoints")
	f.StringVar(&s.found.name, "discovery-srv-name", "", "service name to ask SRV records for")
	f.BoolVar(&s.found.insecure, "insecure-discovery", false, "accept insecure SRV records")
	f.StringSliceVar(&u.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "endpoints of the cluster")
	f.DurationVar(&s.server.follow, "endpoints-auto-sync-interval", 0, "time between questions for the members of the cluster (0 to disable)")
	f.DurationVar(&u.pingTime, "dial-keepalive-time", 0, "time after which a silent member is pinged (0 to disable)")
	f.DurationVar(&u.pingTimeout, "dial-keepalive-timeout", 20*time.Second, "time limit for the answer to such a ping")
	f.BoolVar(&u.pingIdle, "permit-without-stream", false, "ping members also when no request is under way")
	f.IntVar(&u.sendMax, "max-send-bytes", 1536<<10, "bytes of a request that is passed on")
	f.IntVar(&u.recvMax, "max-recv-bytes", math.MaxInt32, "bytes of an answer that is passed on")
	f.StringVar(&s.upCert, "cert", "", "certificate shown to members, without a common name")
	f.StringVar(&s.upKey, "key", "", "its key")
	f.StringVar(&s.found.ca, "cacert", "", "authorities that members are verified with")
	f.BoolVar(&s.skipVerify, "insecure-skip-tls-verify", false, "do not verify members (for tests only)")
}

func (s *proxySettings) bindTLS(f *pflag.FlagSet) {
	f.StringVar(&s.cert, "cert-file", "", "certificate shown to clients")
	f.StringVar(&s.key, "key-file", "", "its key")
	f.StringVar(&s.ca, "trusted-ca-file", "", "authorities that clients must have a certificate of")
	f.StringVar(&s.crl, "client-crl-file", "", "list of revoked certificates of clients")
	f.BoolVar(&s.autoTLS, "auto-tls", false, "serve with a certificate that is made at the start")
	f.UintVar(&s.validity, "self-signed-cert-validity", 1, "years that such a certificate is valid")
	f.StringSliceVar(&s.suites, "listen-cipher-suites", nil, "cipher suites between clients and proxy (empty leaves it to Go)")
	f.StringVar(&s.minTLS, "tls-min-version", "TLS1.2", "lowest TLS version: TLS1.2 or TLS1.3")
	f.StringVar(&s.maxTLS, "tls-max-version", "", "highest TLS version: TLS1.2 or TLS1.3 (empty leaves it to Go)")
}

// check refuses what does not fit together, in etcd's words.
func (s *proxySettings) check() error {
	v := &s.server
	switch {
	case v.prefix != "" && v.ttl < 1:
		return fmt.Errorf("invalid resolver-ttl %d", v.ttl)
	case v.prefix == "" && v.ttl > 0:
		return fmt.Errorf("invalid resolver-prefix %q", v.prefix)
	case v.prefix != "" && v.advertise == "":
		return fmt.Errorf("invalid advertise-client-url %q", v.advertise)
	case s.autoTLS && s.validity == 0:
		return errors.New("selfSignedCertValidity is invalid,it should be greater than 0")
	}
	return nil
}

func (p Process) runProxy(ctx context.Context, s *proxySettings) (err error) {
	log, err := p.openLog(s.debug)
	if err != nil {
		return err
	}
	if err := s.check(); err != nil {
		return err
	}
	if s.server.ownSeconds = p.OwnSeconds; s.server.ownSeconds == 0 {
		s.server.ownSeconds = ownSeconds
	}
	s.server.log, s.server.clock, s.server.sendMax = log, clock.Real(), s.upstream.sendMax
	serving, err := s.serverTLS(log)
	if err != nil {
		return err
	}
	up, err := s.connect(ctx, log)
	if err != nil {
		return err
	}
	main, metrics, err := s.bind(ctx)
	if err != nil {
		return errors.Join(err, up.Close())
	}
	server, err := newServer(s.server, up)
	if err != nil {
		return errors.Join(err, closeAll(main, metrics))
	}
	defer func() { err = errors.Join(err, server.close()) }()
	server.serve(main, serving)
	listeners := []net.Listener{main}
	if metrics != nil {
		withTLS := serving
		if u, err := url.Parse(s.metrics); err == nil && u.Scheme == "http" {
			withTLS = nil
		}
		server.serveMetrics(metrics, withTLS)
		listeners = append(listeners, metrics)
	}
	log.Info("started gRPC proxy", "address", main.Addr().String(), "endpoints", s.upstream.endpoints)
	p.ready(listeners...)
	select {
	case <-ctx.Done():
		return nil
	case err := <-server.failed:
		return fmt.Errorf("serve clients: %w", err)
	}
}

// serverTLS returns the configuration towards clients, nil without TLS.
func (s *proxySettings) serverTLS(log *slog.Logger) (*tls.Config, error) {
	versions, err := config.ParseTLS(s.minTLS, s.maxTLS, s.suites)
	if err != nil {
		return nil, err
	}
	o := tlsconf.Options{Cert: s.cert, Key: s.key, CA: s.ca, CRL: s.crl, MinVersion: versions.Min, MaxVersion: versions.Max,
		CipherSuites: versions.Suites, Side: "client", Clock: clock.Real(), Logger: log}
	switch {
	case s.cert == "" && s.key == "" && s.ca == "" && !s.autoTLS:
		return nil, nil //nolint:nilnil // no TLS is no error
	case s.cert == "" && s.key == "" && s.ca == "":
		host, _, err := net.SplitHostPort(s.listen)
		if err != nil {
			return nil, fmt.Errorf("--listen-addr: %w", err)
		}
		dir := filepath.Join(s.dataDir, "fixtures", "proxy")
		if o.Cert, o.Key, err = tlsconf.SelfSigned(dir, []string{host}, s.validity, time.Now()); err != nil {
			return nil, err
		}
	}
	source, err := tlsconf.Open(o)
	if err != nil {
		return nil, err
	}
	return source.Server("h2", "http/1.1")
}

// connect finds the endpoints and connects to them.
func (s *proxySettings) connect(ctx context.Context, log *slog.Logger) (*upstream, error) {
	u := &s.upstream
	if s.found.domain != "" {
		found, err := s.found.endpoints(ctx, log)
		if err != nil {
			return nil, err
		}
		u.endpoints = nil
		for _, e := range found {
			u.endpoints = append(u.endpoints, e.URL)
		}
	}
	if s.upCert != "" || s.upKey != "" || s.found.ca != "" || s.skipVerify {
		source, err := tlsconf.Open(tlsconf.Options{Cert: s.upCert, Key: s.upKey, CA: s.found.ca, SelfSigned: s.skipVerify,
			Nameless: true, Side: "endpoint", Clock: clock.Real(), Logger: log})
		if named := (*tlsconf.NamedError)(nil); errors.As(err, &named) {
			return nil, named // in etcd's words alone
		}
		if err != nil {
			return nil, err
		}
		u.tls = source
	}
	pages := &s.server.pages
	pages.secure = u.tls != nil
	transport := &http.Transport{MaxIdleConnsPerHost: 1}
	if u.tls != nil {
		transport.DialTLSContext = u.tls.Dialing(new(net.Dialer))
	}
	pages.members = &http.Client{Transport: transport}
	return connect(*u)
}

// bind listens for clients and, where it is wanted, for metrics.
func (s *proxySettings) bind(ctx context.Context) (main, metrics net.Listener, err error) {
	lc := new(net.ListenConfig)
	if main, err = lc.Listen(ctx, "tcp", s.listen); err != nil {
		return nil, nil, err
	}
	if s.metrics == "" {
		return main, nil, nil
	}
	u, err := url.Parse(s.metrics)
	if err != nil || u.Host == "" {
		return nil, nil, errors.Join(fmt.Errorf("cannot parse %q", s.metrics), main.Close())
	}
	if u.Scheme == "https" && s.cert == "" && !s.autoTLS {
		return nil, nil, errors.Join(fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", u.Host), main.Close())
	}
	if metrics, err = lc.Listen(ctx, "tcp", u.Host); err != nil {
		return nil, nil, errors.Join(err, main.Close())
	}
	return main, metrics, nil
}

func closeAll(ls ...net.Listener) error {
	var errs []error
	for _, l := range ls {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
