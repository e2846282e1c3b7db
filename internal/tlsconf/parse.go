package tlsconf

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// revoked holds the serial numbers of revoked certificates, as their bytes.
type revoked map[string]struct{}

// holds tells whether the certificate of that serial number is revoked.
func (r revoked) holds(serial *big.Int) bool {
	_, ok := r[string(serial.Bytes())]
	return ok
}

// readRevoked reads a list of revocations, nil when there is no file.
func readRevoked(name string) (revoked, error) {
	if name == "" {
		return nil, nil
	}
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	r, err := parseRevoked(text)
	if err != nil {
		return nil, fmt.Errorf("CRL file %s: %w", name, err)
	}
	return r, nil
}

// parseRevoked reads one list in DER, as etcd does, or any number in PEM.
func parseRevoked(text []byte) (revoked, error) {
	out := revoked{}
	found, err := blocks(text)
	if err != nil {
		return nil, err
	}
	for _, block := range found {
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("it holds %s, want X509 CRL", block.Type)
		}
		if err := out.add(block.Bytes); err != nil {
			return nil, err
		}
	}
	if len(found) > 0 {
		return out, nil
	}
	return out, out.add(text)
}

// errBrokenBlock is returned for a file that is not whole.
var errBrokenBlock = errors.New("a block of PEM is cut off or cannot be read")

// blocks returns the blocks of a PEM file, none if it is no such file. Package pem passes over those that it cannot read: then a file that is
// half-written, or damaged, would revoke or trust less than it says.
func blocks(text []byte) (out []*pem.Block, err error) {
	const begin = "\n-----BEGIN"
	begun := bytes.Count(text, []byte(begin))
	if bytes.HasPrefix(text, []byte(begin[1:])) {
		begun++
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		out = append(out, block)
	}
	if len(out) < begun {
		return nil, errBrokenBlock
	}
	return out, nil
}

func (r revoked) add(der []byte) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	for i := range list.RevokedCertificateEntries {
		serial := list.RevokedCertificateEntries[i].SerialNumber
		if serial == nil {
			return errors.New("an entry has no serial number")
		}
		r[string(serial.Bytes())] = struct{}{}
	}
	return nil
}

// parseCertificates reads the certificates of a PEM file; there must be one.
func parseCertificates(text []byte) (certs []*x509.Certificate, err error) {
	found, err := blocks(text)
	if err != nil {
		return nil, err
	}
	for _, block := range found {
		if block.Type != "CERTIFICATE" {
			continue // some bundles hold keys and parameters, too
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errNoCertificates
	}
	return certs, nil
}
