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
	cert   *tls.Certificate // nil without files
	client *tls.Certificate // shown to servers; cert where there is none of its own
	roots  *x509.CertPool   // nil: the system's
	crl    revoked
}

// read reads every file that the options name.
func (o *Options) read() (*material, error) {
	m := &material{}
	var err error
	if m.cert, err = readPair(o.Cert, o.Key); err != nil {
		return nil, err
	}
	if m.client, err = readPair(o.ClientCert, o.ClientKey); err != nil {
		return nil, err
	}
	if m.client == nil {
		m.client = m.cert
	}
	if m.client != nil && o.Nameless && m.client.Leaf.Subject.CommonName != "" {
		return nil, &NamedError{m.client.Leaf.Subject.CommonName, cmp.Or(o.ClientCert, o.Cert)}
	}
	if m.roots, err = readRoots(o.CA); err != nil {
		return nil, err
	}
	if m.crl, err = readRevoked(o.CRL); err != nil {
		return nil, err
	}
	return m, nil
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

// readPair reads a certificate and its key, nil when there are no files.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
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
