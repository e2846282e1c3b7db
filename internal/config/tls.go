package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
)

// Sections of the file that hold TLS settings.
const (
	clientTLS = "client-transport-security."
	peerTLS   = "peer-transport-security."
)

// TLS are the settings of one side of a member: of its clients, or of the other members. Empty names are files not given.
type TLS struct {
	// Cert and Key are the certificate of this member and its key.
	Cert, Key string
	// ClientCert and ClientKey are used in place of them for connections that this member opens.
	ClientCert, ClientKey string
	// CA holds the authorities that others are verified with.
	CA string
	// CRL lists revoked certificates.
	CRL string
	// ClientCertAuth demands certificates of those who connect.
	ClientCertAuth bool
	// AllowedCN and AllowedHostname are names of which a certificate must hold one; at most one of them is given. An empty name is nobody's.
	AllowedCN, AllowedHostname []string
	// Auto makes a certificate at start, where none is given.
	Auto bool
	// SkipClientSAN leaves the addresses in the certificates of those who connect unchecked.
	SkipClientSAN bool
}

// Given tells whether there is a certificate.
func (t *TLS) Given() bool { return t.Cert != "" || t.Key != "" }

// The rows of settings that both sides have. field is the setting within TLS.
func ofClients[T any](name, key string, make func(*T) value, field func(*TLS) *T, usage string) Flag {
	return tlsFlag(name, clientTLS, key, usage, func(c *Config) value { return make(field(&c.ClientTLS)) })
}

func ofPeers[T any](name, key string, make func(*T) value, field func(*TLS) *T, usage string) Flag {
	return tlsFlag(name, peerTLS, key, usage, func(c *Config) value { return make(field(&c.PeerTLS)) })
}

func tlsFlag(name, section, key, usage string, bind func(*Config) value) Flag {
	f := Flag{Name: name, Group: Security, Usage: usage, bind: bind}
	if key != "" {
		f.Key = section + key
	}
	if v := bind(new(Config)); v.IsBoolFlag() {
		f.Default = "false"
	}
	return f
}

func inGroup(g Group, f Flag) Flag {
	f.Group = g
	return f
}

// parseTLS fills in the versions and cipher suites and refuses what cannot be served.
func (c *Config) parseTLS() (err error) {
	c.cipherSuites = slices.DeleteFunc(slices.Clone(c.cipherSuites), func(s string) bool { return s == "" })
	spoken, err := ParseTLS(c.tlsMinVersion, c.tlsMaxVersion, c.cipherSuites)
	if err != nil {
		return err
	}
	c.TLSMinVersion, c.TLSMaxVersion, c.CipherSuites = spoken.Min, spoken.Max, spoken.Suites
	return c.checkSecure()
}

// TLSVersions is what may be spoken with TLS.
type TLSVersions struct {
	// Min and Max are versions; 0 leaves them to the library.
	Min, Max uint16
	// Suites may be used below TLS 1.3; none is Go's choice.
	Suites []uint16
}

// ParseTLS reads versions, TLS1.2 or TLS1.3 or empty, and names of cipher suites. The texts of errors are etcd's.
func ParseTLS(lowest, highest string, suites []string) (v TLSVersions, err error) {
	if v.Min, err = tlsVersion(lowest); err != nil {
		return v, err
	}
	if v.Max, err = tlsVersion(highest); err != nil {
		return v, err
	}
	switch {
	case v.Max != 0 && v.Min > v.Max:
		return v, fmt.Errorf("min version (%s) is greater than max version (%s)", lowest, highest)
	case v.Min == tls.VersionTLS13 && len(suites) > 0:
		return v, errors.New("cipher suites cannot be configured when only TLS1.3 is enabled")
	}
	for _, name := range suites {
		id, ok := cipherSuite(name)
		if !ok {
			return v, fmt.Errorf("unexpected TLS cipher suite %q", name)
		}
		v.Suites = append(v.Suites, id)
	}
	return v, nil
}

// checkSecure refuses addresses with TLS for which there can be no certificate.
func (c *Config) checkSecure() error {
	if u := c.ListenClientURLs.secure(); u != nil && !c.ClientTLS.Given() && !c.ClientTLS.Auto {
		return fmt.Errorf("TLS key/cert (--cert-file, --key-file) must be provided for client url %s with HTTPS scheme", u)
	}
	if u := c.ListenPeerURLs.secure(); u != nil && !c.PeerTLS.Given() && !c.PeerTLS.Auto {
		return fmt.Errorf("cannot listen on TLS for %s: KeyFile and CertFile are not presented", u.Host+u.Path)
	}
	return nil
}

// adviseTLS adds notices about TLS settings that something else makes useless.
func (c *Config) adviseTLS() {
	for _, side := range []struct {
		name string
		tls  *TLS
		urls URLs
	}{{"client", &c.ClientTLS, c.ListenClientURLs}, {"peer", &c.PeerTLS, c.ListenPeerURLs}} {
		warn := func(message string, attrs ...slog.Attr) {
			c.Notices = append(c.Notices, Notice{Level: slog.LevelWarn, Message: message, Attrs: append(attrs, slog.String("side", side.name))})
		}
		if side.tls.Auto && side.tls.Given() {
			warn("ignoring auto TLS since certificates are given")
		}
		for i := range side.urls {
			u := &side.urls[i]
			if u.Scheme == "https" || u.Scheme == "unixs" {
				continue
			}
			if side.tls.Given() {
				warn("an address without TLS ignores the certificate and key files", slog.String("url", u.String()))
			}
			if side.tls.ClientCertAuth {
				warn("an address without TLS ignores client certificate authentication", slog.String("url", u.String()))
			}
		}
	}
}

// tlsVersion reads a version; empty is 0, the default of the library.
func tlsVersion(s string) (uint16, error) {
	switch s {
	case "":
		return 0, nil
	case "TLS1.2":
		return tls.VersionTLS12, nil
	case "TLS1.3":
		return tls.VersionTLS13, nil
	default:
		return 0, fmt.Errorf("unexpected TLS version %q (must be one of: TLS1.2, TLS1.3)", s)
	}
}

// oldSuites are names of cipher suites from before they were settled.
var oldSuites = map[string]uint16{
	"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
}

func cipherSuite(name string) (uint16, bool) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if s.Name == name {
			return s.ID, true
		}
	}
	id, ok := oldSuites[name]
	return id, ok
}
