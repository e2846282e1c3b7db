package ctl

import (
	"context"
	"fmt"
	"net"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ashlar-kv/ashlar/internal/discovery"
)

// clientSpec returns what the settings say about the client.
func (s *session) clientSpec() (clientv3.ConfigSpec, error) {
	g := &s.settings
	endpoints := make([]string, len(g.endpoints))
	for i, e := range g.endpoints {
		endpoints[i] = strings.TrimSpace(e)
	}
	spec := clientv3.ConfigSpec{Endpoints: endpoints, DialTimeout: g.dialTimeout, KeepAliveTime: g.keepaliveTime,
		KeepAliveTimeout: g.keepaliveTimeout, MaxCallSendMsgSize: g.maxRequestBytes, MaxCallRecvMsgSize: g.maxRecvBytes,
		Secure: &clientv3.SecureConfig{Cert: g.cert, Key: g.key, Cacert: g.caCert, ServerName: "",
			InsecureTransport: g.insecure, InsecureSkipVerify: g.skipVerify}}
	if g.discoverySRV != "" {
		found, err := discover(g.discoverySRV, g.discoveryName, g.discoveryInsecure)
		if err != nil {
			return spec, fail(statusError, err)
		}
		spec.Endpoints = found
		if !g.discoveryInsecure {
			spec.Secure.ServerName = g.discoverySRV
		}
	}
	if s.auth == nil {
		auth, err := s.credentials(g.user, g.password)
		if err != nil {
			return spec, err
		}
		s.auth = &auth
	}
	auth := *s.auth
	auth.Token = g.authToken
	if !auth.Empty() {
		spec.Auth = &auth
	}
	return spec, nil
}

// credentials splits NAME[:PASSWORD], and asks for a password that is missing.
func (s *session) credentials(user, password string) (clientv3.AuthConfig, error) {
	if user == "" {
		return clientv3.AuthConfig{}, nil
	}
	if password != "" {
		return clientv3.AuthConfig{Username: user, Password: password}, nil
	}
	name, password, found := strings.Cut(user, ":")
	if !found {
		var err error
		if password, err = s.askPassword("Password: "); err != nil {
			return clientv3.AuthConfig{}, fail(statusError, err)
		}
	}
	return clientv3.AuthConfig{Username: name, Password: password}, nil
}

// dial makes a client. Its files are read now; connections are made when they are needed.
func (s *session) dial(spec clientv3.ConfigSpec) (*clientv3.Client, error) {
	log := s.clientLog()
	cfg, err := clientv3.NewClientConfig(&spec, log)
	if err != nil {
		return nil, fail(statusArguments, err)
	}
	cfg.Logger = log
	c, err := clientv3.New(*cfg)
	if err != nil {
		return nil, fail(statusConnection, err)
	}
	return c, nil
}

// clientLog is silent unless --debug is given: what matters comes back as an error.
func (s *session) clientLog() *zap.Logger {
	if !s.settings.debug {
		return zap.NewNop()
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(s.Stderr)), zapcore.DebugLevel))
}

// discover returns the endpoints that the SRV records of a domain name. Records of plain HTTP are left out unless
// insecure is set.
func discover(domain, name string, insecure bool) ([]string, error) {
	found, err := discovery.Clients(context.Background(), net.DefaultResolver, domain, name)
	if err != nil {
		return nil, err
	}
	var endpoints []string
	for _, e := range found {
		if e.Secure() || insecure {
			endpoints = append(endpoints, e.URL)
		}
	}
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("no endpoints found for %s", domain)
	}
	return endpoints, nil
}

// atEndpoint returns a client of that endpoint alone, with the session's other settings.
func (s *session) atEndpoint(spec clientv3.ConfigSpec, endpoint string) (*clientv3.Client, error) {
	spec.Endpoints = []string{endpoint}
	return s.dial(spec)
}

// endpoints returns those asked for: the flag's, or with cluster those of all members.
func (s *session) endpoints(ctx context.Context, cluster bool) ([]string, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	if !cluster {
		return c.Endpoints(), nil
	}
	ctx, cancel := s.request(ctx)
	defer cancel()
	members, err := c.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("failed to fetch endpoints from etcd cluster member list: %w", err)
	}
	var endpoints []string
	for _, m := range members.Members {
		endpoints = append(endpoints, m.GetClientURLs()...)
	}
	return endpoints, nil
}
