package tlsconf

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
)

// fileBytesMax bounds what is read of one file.
const fileBytesMax = 64 << 20

// material is what one set of files held. It is never changed.
type material struct {
	cert  *tls.Certificate // nil without files
	other *tls.Certificate // of connections that this member opens; nil where there is none of its own
	roots *x509.CertPool   // nil: the system's
	crl   revoked
}

// client is the certificate that is shown to servers, nil for none.
func (m *material) client() *tls.Certificate { return cmp.Or(m.other, m.cert) }

// read reads every file that the options name. What cannot be used is as it was before, and the error names it: a client whose certificate was
// revoked is to stay outside also while somebody has yet to replace a key.
func (o *Options) read(before material) (*material, error) {
	m := before
	own := func() (*tls.Certificate, error) { return readPair(o.Cert, o.Key, o.Nameless && o.ClientCert == "") }
	other := func() (*tls.Certificate, error) { return readPair(o.ClientCert, o.ClientKey, o.Nameless) }
	err := errors.Join(renew(&m.cert, own), renew(&m.other, other),
		renew(&m.roots, func() (*x509.CertPool, error) { return readRoots(o.CA) }),
		renew(&m.crl, func() (revoked, error) { return readRevoked(o.CRL) }))
	return &m, err
}

// renew replaces a part by what read returns, unless that is an error.
func renew[T any](part *T, read func() (T, error)) error {
	next, err := read()
	if err == nil {
		*part = next
	}
	return err
}

// files are the names of all files.
func (o *Options) files() (names []string) {
	for _, name := range []string{o.Cert, o.Key, o.ClientCert, o.ClientKey, o.CA, o.CRL} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// readPair reads a certificate and its key, nil when there are no files; nameless refuses one that has a common name.
func readPair(certFile, keyFile string, nameless bool) (*tls.Certificate, error) {
	if certFile == "" {
		return nil, nil
	}
	cert, err := readFile(certFile)
	if err != nil {
		return nil, err
	}
	key, err := readFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	if name := pair.Leaf.Subject.CommonName; nameless && name != "" {
		return nil, &NamedError{name, certFile}
	}
	return &pair, nil
}

// errNoCertificates is returned when a file of authorities holds none.
var errNoCertificates = errors.New("no certificate in PEM found")

// readRoots reads authorities, nil when there is no file.
func readRoots(name string) (*x509.CertPool, error) {
	if name == "" {
		return nil, nil
	}
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("trusted CA file %s: %w", name, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// readFile reads a file of bounded size. Its errors name the file.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err // the operating system's message names the file
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, fileBytesMax)
	}
	return text, nil
}
