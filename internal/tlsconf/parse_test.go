package tlsconf

import (
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/authority"
)

func TestAListOfRevocationsIsReadInBothForms(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a, b := l.ca.Issue(t, "a", authority.Names{}), l.another.Issue(t, "b", authority.Names{})
	var both []byte
	for _, name := range []string{l.ca.Revoke(t, "a.crl", a), l.another.Revoke(t, "b.crl", b)} {
		der, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := parseRevoked(der); err != nil || len(r) != 1 {
			t.Errorf("in DER: %v, %v", r, err)
		}
		both = append(both, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	r, err := parseRevoked(both)
	if err != nil || !r.holds(a.Serial) || !r.holds(b.Serial) || r.holds(big.NewInt(1)) {
		t.Errorf("in PEM: %v, %v", r, err)
	}
	if _, err := parseRevoked(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"})); err == nil {
		t.Error("a certificate was taken for a list")
	}
}

// A file that is being written, or was cut off, must not be taken for one that revokes or trusts less.
func TestPartOfAFileIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	der := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	list := func(a *authority.Authority, name string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der(a.Revoke(t, name, a.Issue(t, name+"-x", authority.Names{})))})
	}
	parse := map[string]func([]byte) error{
		"a list of revocations": func(b []byte) error { _, err := parseRevoked(b); return err },
		"authorities":           func(b []byte) error { _, err := parseCertificates(b); return err },
	}
	for name, blocks := range map[string][2][]byte{
		"a list of revocations": {list(l.ca, "a"), list(l.another, "b")},
		"authorities":           {der(l.ca.File), der(l.another.File)},
	} {
		first, second := string(blocks[0]), string(blocks[1])
		broken := strings.Replace(second, "\n", "\n!", 1)
		for text, want := range map[string]bool{
			first + second: true,
			"# the first\n" + first + "the second:\n" + second: true,
			first + second[:len(second)/2]:                     false,
			first + second[:len("-----BEGIN X")]:               false,
			first + second[:len(second)-2]:                     false,
			broken + first:                                     false,
			first + broken + first:                             false,
		} {
			if err := parse[name]([]byte(text)); (err == nil) != want {
				t.Errorf("%s: got %v of\n%s", name, err, text)
			}
		}
	}
}

func FuzzFilesAreReadOrRefused(f *testing.F) {
	dir := f.TempDir()
	ca := authority.New(f, dir, "ca")
	der, err := os.ReadFile(ca.Revoke(f, "crl", ca.Issue(f, "x", authority.Names{CN: "x"})))
	if err != nil {
		f.Fatal(err)
	}
	cert, err := os.ReadFile(ca.File)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	f.Add(cert)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRevoked(b); err == nil && r == nil {
			t.Error("neither a list nor an error")
		}
		if certs, err := parseCertificates(b); (err == nil) != (len(certs) > 0) {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
	})
}
