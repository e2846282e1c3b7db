package server

import (
	"crypto/tls"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/ashlar-kv/ashlar/internal/accept"
	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/tlsconf"
)

// encryption is how the two sides of a member use TLS.
type encryption struct {
	clients, peers []*tls.Config   // of each address; nil for one without TLS
	http, metrics  []*tls.Config   // of addresses for HTTP alone
	dialing        *tlsconf.Source // for connections to other members
	log            *slog.Logger
}

// encrypt opens the certificates that the addresses need.
func encrypt(cfg *config.Config, log *slog.Logger) (*encryption, error) {
	clients, observers, members, err := sources(cfg, log)
	if err != nil {
		return nil, err
	}
	e := &encryption{dialing: members, log: log}
	if e.clients, err = configs(cfg.ListenClientURLs, clients, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	if e.http, err = configs(cfg.ListenClientHTTPURLs, clients, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	if e.metrics, err = configs(cfg.ListenMetricsURLs, observers, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	e.peers, err = configs(cfg.ListenPeerURLs, members, "http/1.1")
	return e, err
}

func configs(urls config.URLs, s *tlsconf.Source, protocols ...string) ([]*tls.Config, error) {
	out := make([]*tls.Config, len(urls))
	for i := range urls {
		if !withTLS(urls[i].Scheme) {
			continue
		}
		var err error
		if out[i], err = s.Server(protocols...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// forClients returns the listener of the client address at i with its TLS, if it has any.
func (e *encryption) forClients(i int, l net.Listener) net.Listener { return e.wrap(l, e.clients[i]) }

// forPeers wraps the listeners of the peer addresses.
func (e *encryption) forPeers(ls []net.Listener) {
	for i, l := range ls {
		ls[i] = e.wrap(l, e.peers[i])
	}
}

// wrap puts TLS on a listener that is to have it. Either way it outlives a lack of memory.
func (e *encryption) wrap(l net.Listener, c *tls.Config) net.Listener {
	if c == nil {
		return accept.Patient(l)
	}
	return tlsconf.Listen(l, c, e.log)
}

func withTLS(scheme string) bool { return scheme == "https" || scheme == "unixs" }

func anyTLS(urls config.URLs) bool {
	for i := range urls {
		if withTLS(urls[i].Scheme) {
			return true
		}
	}
	return false
}

// sources opens the certificates of both sides. observers are clients that ask for metrics alone: the addresses in their certificates are
// looked at, as in etcd. Settings of a side of which nothing has TLS are not looked at, as in etcd. With
// them, it makes the certificates that are to be made at start.
func sources(cfg *config.Config, log *slog.Logger) (clients, observers, members *tlsconf.Source, err error) {
	ofClients := slices.Concat(cfg.ListenClientURLs, cfg.ListenClientHTTPURLs, cfg.ListenMetricsURLs)
	if anyTLS(ofClients) {
		o := options(cfg, &cfg.ClientTLS, "client", log)
		if err := selfSigned(cfg, &cfg.ClientTLS, &o, ofClients); err != nil {
			return nil, nil, nil, err
		}
		if clients, err = tlsconf.Open(o); err != nil {
			return nil, nil, nil, err
		}
		if anyTLS(cfg.ListenMetricsURLs) {
			o.CheckSAN = !cfg.ClientTLS.SkipClientSAN
			if observers, err = tlsconf.Open(o); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	o := options(cfg, &cfg.PeerTLS, "peer", log)
	o.CheckSAN = !cfg.PeerTLS.SkipClientSAN
	if cfg.PeerTLS.CA == "" { // as in etcd: members found by DNS are who the domain's certificate says
		o.ServerName = cfg.Discovery.SRV
	}
	if anyTLS(cfg.ListenPeerURLs) {
		if err := selfSigned(cfg, &cfg.PeerTLS, &o, cfg.ListenPeerURLs); err != nil {
			return nil, nil, nil, err
		}
	}
	// A member without TLS of its own may still dial others that have it.
	members, err = tlsconf.Open(o)
	return clients, observers, members, err
}

func options(cfg *config.Config, t *config.TLS, side string, log *slog.Logger) tlsconf.Options {
	return tlsconf.Options{
		Cert: t.Cert, Key: t.Key, ClientCert: t.ClientCert, ClientKey: t.ClientKey, CA: t.CA, CRL: t.CRL,
		ClientCertAuth: t.ClientCertAuth, AllowedCN: t.AllowedCN, AllowedHostname: t.AllowedHostname,
		MinVersion: cfg.TLSMinVersion, MaxVersion: cfg.TLSMaxVersion, CipherSuites: cfg.CipherSuites,
		Side: side, Clock: clock.Real(), Logger: log,
	}
}

// selfSigned makes a certificate for a side that wants one made and has none, in the place where etcd makes it.
func selfSigned(cfg *config.Config, t *config.TLS, o *tlsconf.Options, urls config.URLs) (err error) {
	if !t.Auto || t.Given() {
		return nil
	}
	var hosts []string
	for i := range urls {
		hosts = append(hosts, urls[i].Hostname())
	}
	o.SelfSigned = true
	o.Cert, o.Key, err = tlsconf.SelfSigned(filepath.Join(cfg.DataDir, "fixtures", o.Side), hosts, cfg.SelfSignedCertValidity, time.Now())
	return err
}
