package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/discovery"
	"github.com/ashlar-kv/ashlar/internal/tlsconf"
)

// discovered are endpoints that DNS names.
type discovered struct {
	resolver     discovery.Resolver
	domain, name string
	insecure     bool   // take endpoints without TLS, and verify nothing
	ca           string // authorities that endpoints are verified with
}

// endpoints asks for them. There is at least one. Unless insecure ones are wanted, each has a certificate of the domain.
func (d *discovered) endpoints(ctx context.Context, log *slog.Logger) ([]discovery.Endpoint, error) {
	found, err := discovery.Clients(ctx, d.resolver, d.domain, d.name)
	if err != nil {
		return nil, err
	}
	if !d.insecure {
		if found, err = d.verified(ctx, found, log); err != nil {
			return nil, err
		}
	}
	log.Info("discovered endpoints", "domain", d.domain, "endpoints", len(found))
	if len(found) == 0 {
		return nil, errNoEndpoints
	}
	return found, nil
}

var errNoEndpoints = errors.New("no endpoints found")

// verified returns the endpoints whose certificate is one of the domain, from an authority that is trusted.
func (d *discovered) verified(ctx context.Context, found []discovery.Endpoint, log *slog.Logger) ([]discovery.Endpoint, error) {
	s, err := tlsconf.Open(tlsconf.Options{CA: d.ca, Side: "endpoint", Clock: clock.Real(), Logger: log})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(e discovery.Endpoint) bool {
		if !e.Secure() {
			return true
		}
		c := s.Client()
		c.ServerName = d.domain
		err := handshake(ctx, net.JoinHostPort(e.Host, fmt.Sprint(e.Port)), c)
		if err != nil {
			log.Warn("an endpoint cannot be verified and is not used", "endpoint", e.URL, "error", err)
		}
		return err != nil
	}), nil
}

// handshake tells whether an endpoint has a certificate that c accepts.
func handshake(ctx context.Context, address string, c *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayDialTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
