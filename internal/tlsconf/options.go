package tlsconf

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// Options describes a Source. Empty file names are files not given.
type Options struct {
	// Cert and Key are the certificate of this member and its key; both or neither. Without them there is no server side.
	Cert, Key string
	// ClientCert and ClientKey are used for connections that this member opens, in place of Cert and Key; both or neither.
	ClientCert, ClientKey string
	// CA holds the authorities that others are verified with, servers and clients. Without it they are the system's. With
	// it, clients need a certificate, whatever ClientCertAuth says, as in etcd.
	CA string
	// ServerName is the name that servers' certificates must have; empty is the host that was dialed.
	ServerName string
	// Nameless refuses a certificate for connections that this process opens that has a common name, with a *NamedError: servers would take whoever asks
	// through it for the user of that name.
	Nameless bool
	// CRL lists revoked certificates, in DER or PEM.
	CRL string
	// ClientCertAuth demands a certificate of clients.
	ClientCertAuth bool
	// AllowedCN and AllowedHostname are names of which the other's certificate must hold one, where it shows a certificate.
	// At most one of the two lists may be given. An empty name is that of no certificate, so that a list of it alone lets in nobody.
	AllowedCN, AllowedHostname []string
	// CheckSAN refuses clients whose certificate names addresses or hosts, none of which is that of the connection.
	CheckSAN bool
	// SelfSigned says that others have made their own certificates: connections that this member opens verify nothing.
	SelfSigned bool
	// MinVersion and MaxVersion bound the versions of TLS; 0 is TLS 1.2 and the newest.
	MinVersion, MaxVersion uint16
	// CipherSuites are what may be used below TLS 1.3; none is Go's choice.
	CipherSuites []uint16
	// Side names the source in the log, such as "client". Required, as are the two after it.
	Side   string
	Clock  clock.Clock
	Logger *slog.Logger
}

// ErrNoCertificate is returned when a server side is asked for without a certificate.
var ErrNoCertificate = errors.New("KeyFile and CertFile are not presented")

// NamedError is the reason why a certificate is refused that is to have no common name.
type NamedError struct{ Name, File string }

// Error implements error, in etcd's words.
func (e *NamedError) Error() string {
	return fmt.Sprintf("cert has non empty Common Name (%s): %s", e.Name, e.File)
}

// Empty tells whether the options have no certificate of their own, so that they cannot serve TLS.
func (o *Options) Empty() bool { return o.Cert == "" && o.Key == "" }

// check refuses what does not fit together, in etcd's words.
func (o *Options) check() error {
	if (o.Cert == "") != (o.Key == "") {
		return fmt.Errorf("KeyFile and CertFile must both be present[key: %s, cert: %s]", o.Key, o.Cert)
	}
	if (o.ClientCert == "") != (o.ClientKey == "") {
		return fmt.Errorf("ClientKeyFile and ClientCertFile must both be present or both absent: key: %s, cert: %s", o.ClientKey, o.ClientCert)
	}
	if len(o.AllowedCN) > 0 && len(o.AllowedHostname) > 0 {
		return fmt.Errorf("AllowedCNs and AllowedHostnames are mutually exclusive (cns=%q, hostnames=%q)", o.AllowedCN, o.AllowedHostname)
	}
	return nil
}

// verifiesClients tells whether clients need a certificate.
func (o *Options) verifiesClients() bool { return o.ClientCertAuth || o.CA != "" }
