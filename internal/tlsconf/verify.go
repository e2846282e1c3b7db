package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

var (
	// ErrNotAllowed is returned when a certificate has none of the names allowed.
	ErrNotAllowed = errors.New("client certificate authentication failed")
	// ErrRevoked is returned when a certificate, or one that came with it, is revoked.
	ErrRevoked = errors.New("certificate is revoked")
	// ErrWrongAddress is returned when a client does not come from where its certificate says.
	ErrWrongAddress = errors.New("the certificate is not for the address of the client")
)

// verify ends every handshake, on both sides, also one that resumes a session. The library has verified the chain up to the
// authorities by then.
func (s *Source) verify(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	m := s.current.Load()
	for _, c := range cs.PeerCertificates {
		if m.crl.holds(c.SerialNumber) {
			return fmt.Errorf("%w: serial number %x", ErrRevoked, c.SerialNumber)
		}
	}
	if !s.o.allows(cs.PeerCertificates[0]) {
		return ErrNotAllowed
	}
	return nil
}

// allows tells whether a certificate has one of the names allowed.
func (o *Options) allows(c *x509.Certificate) bool {
	switch {
	case len(o.AllowedCN) > 0:
		return c.Subject.CommonName != "" && slices.Contains(o.AllowedCN, c.Subject.CommonName)
	case len(o.AllowedHostname) > 0:
		return slices.ContainsFunc(o.AllowedHostname, func(name string) bool { return c.VerifyHostname(name) == nil })
	default:
		return true
	}
}

// checkSAN refuses a certificate that names addresses or hosts, none of which is that of the connection. Names are looked up,
// as etcd does: first those of the address, then the addresses of the names.
func checkSAN(ctx context.Context, c *x509.Certificate, remote string) error {
	if len(c.IPAddresses) == 0 && len(c.DNSNames) == 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrongAddress, err)
	}
	if ip := net.ParseIP(host); ip != nil && slices.ContainsFunc(c.IPAddresses, ip.Equal) {
		return nil
	}
	if namesAddress(ctx, c.DNSNames, host) {
		return nil
	}
	return fmt.Errorf("%w: %s is not in %v %q", ErrWrongAddress, host, c.IPAddresses, c.DNSNames)
}

// lookupsMax bounds how many names of one certificate are looked up.
const lookupsMax = 64

// namesAddress tells whether one of the names belongs to the address, by either direction of DNS.
func namesAddress(ctx context.Context, names []string, address string) bool {
	if len(names) == 0 {
		return false
	}
	found, _ := net.DefaultResolver.LookupAddr(ctx, address) // an address without names is not an error here
	for _, f := range found {
		f = strings.TrimSuffix(f, ".")
		if slices.ContainsFunc(names, func(n string) bool { return covers(n, f) }) {
			return true
		}
	}
	for _, n := range names[:min(len(names), lookupsMax)] {
		if strings.HasPrefix(n, "*.") {
			continue
		}
		if addresses, err := net.DefaultResolver.LookupHost(ctx, n); err == nil && slices.Contains(addresses, address) {
			return true
		}
	}
	return false
}

// covers tells whether a name of a certificate stands for a host; *.x stands for all below x, as in etcd.
func covers(name, host string) bool {
	if suffix, ok := strings.CutPrefix(name, "*"); ok && strings.HasPrefix(suffix, ".") {
		return strings.HasSuffix(host, suffix)
	}
	return name == host
}
