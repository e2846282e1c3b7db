package tlsconf

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of what SelfSigned writes, those of etcd.
const (
	selfSignedCert = "cert.pem"
	selfSignedKey  = "key.pem"
)

// year is what the validity of such certificates is counted in, as in etcd.
const year = 365 * 24 * time.Hour

// ErrNoValidity is returned when a certificate would be valid for no time.
var ErrNoValidity = errors.New("selfSignedCertValidity is invalid,it should be greater than 0")

// SelfSigned returns the files of a certificate for hosts that signs itself, which it makes in dir, valid for years, unless both
// are there. They are there until somebody removes them, also when they are no longer valid, as in etcd.
func SelfSigned(dir string, hosts []string, years uint, now time.Time) (cert, key string, err error) {
	if years == 0 {
		return "", "", ErrNoValidity
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, selfSignedCert), filepath.Join(dir, selfSignedKey)
	if holds(cert) && holds(key) {
		return cert, key, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	certText, keyText, err := makeSelfSigned(hosts, years, now)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	// The certificate is last: a start that ends in between makes both anew.
	if err := writeWhole(key, keyText); err != nil {
		return "", "", err
	}
	return cert, key, writeWhole(cert, certText)
}

// holds tells whether there is something in a file: a loss of power can leave one that etcd made, or an earlier build, without what it held.
func holds(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Size() > 0
}

// writeWhole writes a file that is there as a whole or not at all, also after a loss of power.
func writeWhole(name string, text []byte) error {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// makeSelfSigned returns a certificate and its key, in PEM. It serves and it shows who a client is.
func makeSelfSigned(hosts []string, years uint, now time.Time) (cert, key []byte, err error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"etcd"}},
		NotBefore: now, NotAfter: now.Add(time.Duration(min(years, 200)) * year), // more does not fit into a Duration
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else if h != "" {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), nil
}
