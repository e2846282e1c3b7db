// Package authority is a small certificate authority for tests: it writes real certificates, keys and lists of revocations into a
// directory of the test.
//
// # Rules
//
//  1. Everything that it issues is valid from an hour ago for two days, unless a test says otherwise.
//  2. It fails the test instead of returning errors.
//  3. No program of ours uses it: it makes weak promises about serial numbers, and none about keeping keys.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority issues certificates. It may be used from any goroutine.
type Authority struct {
	// File holds its own certificate.
	File string
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Issued is a certificate with its key.
type Issued struct {
	// Cert and Key are its files.
	Cert, Key string
	// Serial is its serial number.
	Serial *big.Int
}

// Names is what a certificate says of its holder.
type Names struct {
	CN    string
	Hosts []string
	IPs   []string
	// Expired makes one that is valid no more.
	Expired bool
}

// Loopback are the names of a certificate for CN on this machine.
func Loopback(cn string) Names {
	return Names{CN: cn, Hosts: []string{"localhost"}, IPs: []string{"127.0.0.1", "::1"}}
}

var serial atomic.Int64

// New makes an authority called name with its files in dir.
func New(tb testing.TB, dir, name string) *Authority {
	tb.Helper()
	a := &Authority{dir: dir, File: filepath.Join(dir, name+".pem")}
	t := template(Names{CN: name})
	t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	a.key = newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, t, t, &a.key.PublicKey, a.key)
	check(tb, err)
	a.cert, err = x509.ParseCertificate(der)
	check(tb, err)
	write(tb, a.File, "CERTIFICATE", der)
	return a
}

// Issue writes a certificate for both directions as file.crt and file.key, over what is there.
func (a *Authority) Issue(tb testing.TB, file string, n Names) Issued {
	tb.Helper()
	t := template(n)
	key := newKey(tb)
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	check(tb, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(tb, err)
	out := Issued{filepath.Join(a.dir, file+".crt"), filepath.Join(a.dir, file+".key"), t.SerialNumber}
	write(tb, out.Key, "PRIVATE KEY", keyDER)
	write(tb, out.Cert, "CERTIFICATE", der)
	return out
}

// Revoke writes a list of revocations in DER as file, over what is there, and returns its name.
func (a *Authority) Revoke(tb testing.TB, file string, revoked ...Issued) string {
	tb.Helper()
	list := &x509.RevocationList{Number: big.NewInt(serial.Add(1)), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, r := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.Serial, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	check(tb, err)
	name := filepath.Join(a.dir, file)
	replace(tb, name, der)
	return name
}

// Client returns the configuration of a client that trusts the authority and shows own, if it is not nil.
func (a *Authority) Client(tb testing.TB, own *Issued) *tls.Config {
	tb.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(a.cert)
	if own != nil {
		pair, err := tls.LoadX509KeyPair(own.Cert, own.Key)
		check(tb, err)
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func template(n Names) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1000 + serial.Add(1)), Subject: pkix.Name{CommonName: n.CN}, DNSNames: n.Hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if n.Expired {
		t.NotAfter = time.Now().Add(-time.Minute)
	}
	for _, ip := range n.IPs {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	return t
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	return key
}

func write(tb testing.TB, name, kind string, der []byte) {
	tb.Helper()
	replace(tb, name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// replace writes a file in one step, so that no reader sees half of it.
func replace(tb testing.TB, name string, text []byte) {
	tb.Helper()
	check(tb, os.WriteFile(name+".new", text, 0o600))
	check(tb, os.Rename(name+".new", name))
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
