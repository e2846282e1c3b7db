package config

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Discovery says how the founding members of a cluster find each other, where --initial-cluster does not say it: by SRV
// records, or by a registry in another cluster. At most one of SRV and Endpoints is set.
type Discovery struct {
	// SRV is the domain whose records name the members, SRVName the suffix of the service they are records of.
	SRV, SRVName string
	// Token names the cluster in the registry, Endpoints are the addresses of whoever keeps it; both or neither.
	Token     string
	Endpoints []string
	// DialTimeout bounds a connection to it, RequestTimeout a request.
	DialTimeout, RequestTimeout time.Duration
	// KeepAliveTime is the time between two pings, KeepAliveTimeout how long the answer to one may take.
	KeepAliveTime, KeepAliveTimeout time.Duration
	// MaxRequestBytes and MaxRecvBytes bound what is sent and received; 0 is the client's own bound.
	MaxRequestBytes, MaxRecvBytes int
	// Insecure connects without TLS where neither a certificate nor an address asks for it; SkipVerify verifies nothing.
	Insecure, SkipVerify bool
	// Cert and Key are the certificate to show, CA what the service is verified with, ServerName the name it must have.
	Cert, Key, CA, ServerName string
	// User and Password, or AuthToken, are what to log in with.
	User, Password, AuthToken string
}

// Wanted tells whether the members are to be found by discovery.
func (d *Discovery) Wanted() bool {
	return d.SRV != "" || slices.ContainsFunc(d.Endpoints, func(e string) bool { return e != "" })
}

// ErrDiscoveryConflict is returned when the founding members are named in more than one way.
var ErrDiscoveryConflict = errors.New(`multiple discovery or bootstrap flags are set. Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`)

var (
	errDiscoveryProxy = errors.New(`v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy"`)
	errDiscoveryHalf  = errors.New("both --discovery-token and --discovery-endpoints must be set")
)

// checkDiscovery refuses what no member can begin with, and more than one way to find the members. REQUIRES: InitialCluster is what was given.
func (c *Config) checkDiscovery() error {
	c.Discovery.Endpoints = slices.DeleteFunc(c.Discovery.Endpoints, func(e string) bool { return e == "" })
	ways := 0
	for _, given := range []bool{c.InitialCluster != "", c.Discovery.SRV != "", len(c.Discovery.Endpoints) > 0} {
		if given {
			ways++
		}
	}
	switch {
	case c.discoveryFallback == fallbackProxy:
		return errDiscoveryProxy
	case c.InitialClusterState != stateNew && c.InitialClusterState != stateExisting: // only a file can hold it
		return fmt.Errorf("unexpected clusterState %q", c.InitialClusterState)
	case ways > 1:
		return ErrDiscoveryConflict
	case (c.Discovery.Token == "") != (len(c.Discovery.Endpoints) == 0):
		return errDiscoveryHalf
	}
	return nil
}

// Found says what discovery has found: the founding members in the form of --initial-cluster. Afterwards the configuration is
// as if it had said so itself.
func (c *Config) Found(initialCluster string) {
	c.InitialCluster = initialCluster
	if c.Discovery.Token != "" {
		c.InitialClusterToken = c.Discovery.Token
	}
	c.Discovery = Discovery{}
}
