package discovery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Resolver asks DNS; *net.Resolver is one.
type Resolver interface {
	// LookupSRV returns the records of _service._proto.name, in the order in which to try them.
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	// LookupIPAddr returns the addresses of a host, which may be an address itself.
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
}

// lookupTimeout bounds all the questions of one discovery.
const lookupTimeout = 30 * time.Second

// Self is the member that looks for its cluster.
type Self struct {
	// Name is what the member calls itself.
	Name string
	// PeerURLs are the addresses at which it says that others reach it. Its record is found by them.
	PeerURLs []url.URL
}

// Servers returns the members that the records _etcd-server-ssl._tcp and _etcd-server._tcp of a domain name, in the form of
// --initial-cluster. The suffix, if there is one, is appended to the service with a dash. The member whose address is one of
// self's has self's name, the others are called by numbers: names of others do not matter. One of the two lists of records may
// be missing; the error of it is then left out, as are those of records whose host has no address.
func Servers(ctx context.Context, r Resolver, domain, suffix string, self Self) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var members []string
	var failures []error
	names := &numbers{taken: self.Name}
	for _, kind := range []struct{ service, scheme string }{{"etcd-server-ssl", "https"}, {"etcd-server", "http"}} {
		found, err := servers(ctx, r, withSuffix(kind.service, suffix), kind.scheme, domain, self, names)
		if err != nil {
			failures = append(failures, fmt.Errorf("error querying DNS SRV records for _%s %w", withSuffix(kind.service, suffix), err))
			continue
		}
		members = append(members, found...)
	}
	if len(members) == 0 {
		return "", errors.Join(failures...)
	}
	return strings.Join(members, ","), nil
}

// servers returns the members that the records of one service name.
func servers(ctx context.Context, r Resolver, service, scheme, domain string, self Self, names *numbers) ([]string, error) {
	own, err := addressesOf(ctx, r, self.PeerURLs)
	if err != nil {
		return nil, err
	}
	_, records, err := r.LookupSRV(ctx, service, "tcp", domain)
	if err != nil {
		return nil, err
	}
	var members []string
	var failed error
	for _, record := range records {
		at, err := addresses(ctx, r, record.Target, strconv.Itoa(int(record.Port)))
		if err != nil {
			failed = err
			continue
		}
		place := scheme + "://" + hostPort(record)
		i := slices.IndexFunc(own, func(o ownAddress) bool { return slices.Contains(at, o.address) })
		switch {
		case i < 0:
			members = append(members, names.next()+"="+place)
		case own[i].url.Scheme != scheme:
			failed = fmt.Errorf("bootstrap at %s from DNS for %s has scheme mismatch with expected peer %s", place, service, &own[i].url)
		default:
			members = append(members, self.Name+"="+place)
		}
	}
	if len(members) == 0 {
		return nil, failed
	}
	return members, nil
}

// numbers are names for members of which nothing but the address is known: 0, 1, 2… without the one that is taken. One name
// for two members would make them one.
type numbers struct {
	count int
	taken string
}

func (n *numbers) next() string {
	name := strconv.Itoa(n.count)
	n.count++
	if name == n.taken {
		return n.next()
	}
	return name
}

// ownAddress is where one of the member's addresses leads.
type ownAddress struct {
	address string
	url     url.URL
}

func addressesOf(ctx context.Context, r Resolver, urls []url.URL) ([]ownAddress, error) {
	var out []ownAddress
	for _, u := range urls {
		if u.Scheme != "http" && u.Scheme != "https" { // a socket on this machine has no record
			continue
		}
		at, err := addresses(ctx, r, u.Hostname(), u.Port())
		if err != nil {
			return nil, err
		}
		for _, a := range at {
			out = append(out, ownAddress{a, u})
		}
	}
	return out, nil
}

// addresses returns IP:PORT for each address of a host.
func addresses(ctx context.Context, r Resolver, host, port string) ([]string, error) {
	ips, err := r.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = net.JoinHostPort(ip.String(), port)
	}
	return out, nil
}

// Endpoint is an address for clients that a record names.
type Endpoint struct {
	// URL is https://HOST:PORT or http://HOST:PORT, without the dot that ends the record's host.
	URL string
	// Host and Port are its parts.
	Host string
	Port uint16
	// Priority and Weight are the record's: lower priorities first, and among equal ones in proportion to the weight.
	Priority, Weight uint16
}

// Secure tells whether the endpoint's record is one of endpoints with TLS.
func (e Endpoint) Secure() bool { return strings.HasPrefix(e.URL, "https://") }

// Clients returns the endpoints that the records _etcd-client-ssl._tcp and _etcd-client._tcp of a domain name, those with TLS
// first. The suffix is as in Servers. It is an error when both look-ups fail.
func Clients(ctx context.Context, r Resolver, domain, suffix string) ([]Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var out []Endpoint
	var failures []error
	for _, kind := range []struct{ service, scheme string }{{"etcd-client-ssl", "https"}, {"etcd-client", "http"}} {
		_, records, err := r.LookupSRV(ctx, withSuffix(kind.service, suffix), "tcp", domain)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, record := range records {
			out = append(out, Endpoint{URL: kind.scheme + "://" + hostPort(record), Host: strings.TrimSuffix(record.Target, "."),
				Port: record.Port, Priority: record.Priority, Weight: record.Weight})
		}
	}
	if len(failures) == 2 {
		return nil, fmt.Errorf("dns lookup errors: %w and %w", failures[0], failures[1])
	}
	return out, nil
}

func withSuffix(service, suffix string) string {
	if suffix == "" {
		return service
	}
	return service + "-" + suffix
}

func hostPort(record *net.SRV) string {
	return net.JoinHostPort(strings.TrimSuffix(record.Target, "."), strconv.Itoa(int(record.Port)))
}
