package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAProxyRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a prefix without a time to live": {[]string{"--resolver-prefix=x"}, "invalid resolver-ttl 0"},
		"a time to live without a prefix": {[]string{"--resolver-ttl=4"}, `invalid resolver-prefix ""`},
		"a prefix without an address":     {[]string{"--resolver-prefix=x", "--resolver-ttl=4", "--advertise-client-url="}, `invalid advertise-client-url ""`},
		"an unknown TLS version":          {[]string{"--tls-min-version=TLS1.9"}, `unexpected TLS version "TLS1.9" (must be one of: TLS1.2, TLS1.3)`},
		"TLS versions the wrong way":      {[]string{"--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"}, "min version (TLS1.3) is greater than max version (TLS1.2)"},
		"an unknown cipher suite":         {[]string{"--listen-cipher-suites=xx"}, `unexpected TLS cipher suite "xx"`},
		"a certificate for no time":       {[]string{"--auto-tls", "--self-signed-cert-validity=0"}, "selfSignedCertValidity is invalid,it should be greater than 0"},
		"half a certificate":              {[]string{"--cert-file=x"}, "KeyFile and CertFile must both be present[key: , cert: x]"},
		"an authority alone":              {[]string{"--trusted-ca-file=x"}, "no such file or directory"},
		"an endpoint of another kind":     {[]string{"--endpoints=ftp://x"}, `error parsing endpoint "ftp://x"`},
		"no endpoints":                    {[]string{"--endpoints="}, "no endpoints found"},
		"a domain without records":        {[]string{"--discovery-srv=nowhere.test"}, "dns lookup errors: no such host and no such host"},
		"metrics at no address":           {[]string{"--metrics-addr=x"}, `cannot parse "x"`},
		"metrics without a certificate":   {[]string{"--metrics-addr=https://127.0.0.1:0"}, "cannot listen on TLS for 127.0.0.1:0: KeyFile and CertFile are not presented"},
		"no address to listen on":         {[]string{"--listen-addr=x"}, "listen tcp: address x: missing port in address"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"grpc-proxy", "start", "--listen-addr=127.0.0.1:0"}, c.args...)
			if got := refused(t, Process{Resolver: records{}, Args: args}); !strings.HasPrefix(got, "etcd: ") || !strings.HasSuffix(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestACertificateWithANameIsRefused: members would take every client without a token for the user of that name.
func TestACertificateWithANameIsRefused(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := refused(t, Process{Args: []string{"grpc-proxy", "start", "--listen-addr=127.0.0.1:0", "--cert=" + cert, "--key=" + keyFile}})
	if want := "etcd: cert has non empty Common Name (root): " + cert; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEndpointsHaveTheFormsThatClientsKnow(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]struct {
		address, name string
		secure        bool
	}{
		"a:1":             {"a:1", "a:1", false},
		"http://a:1":      {"a:1", "a:1", false},
		"https://a:1":     {"a:1", "a:1", true},
		"unix:///dir/s":   {"unix:/dir/s", "s", false},
		"unixs:///dir/s":  {"unix:/dir/s", "s", true},
		"unix:s":          {"unix:s", "s", false},
		"unix://s":        {"unix:s", "s", false},
		"https://[::1]:2": {"[::1]:2", "[::1]:2", true},
	} {
		state, secure, err := resolve([]string{endpoint})
		if err != nil || secure != want.secure || state.Addresses[0].Addr != want.address || state.Addresses[0].ServerName != want.name {
			t.Errorf("%s: %v, %v, %v", endpoint, state, secure, err)
		}
	}
}

func TestANamespaceHoldsItsKeysAndNoOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n, key, end, upKey, upEnd string
	}{
		{"", "", "\x00", "", "\x00"},
		{"n/", "k", "", "n/k", ""},
		{"n/", "k", "l", "n/k", "n/l"},
		{"n/", "k", "\x00", "n/k", "n0"},
		{"n/", "\x00", "\x00", "n/\x00", "n0"},
		{"a\xff", "k", "\x00", "a\xffk", "b"},
		{"\xff\xff", "k", "\x00", "\xff\xffk", "\x00"},
	} {
		n := namespace(c.n)
		if key, end := n.key([]byte(c.key)), n.end([]byte(c.end)); string(key) != c.upKey || string(end) != c.upEnd {
			t.Errorf("in %q [%q, %q) is [%q, %q)", c.n, c.key, c.end, key, end)
		}
	}
}
