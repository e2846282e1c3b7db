package config

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestTLSSettingsAreTheSameFromFlagsAndFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	section := "  cert-file: c\n  key-file: k\n  client-cert-file: cc\n  client-key-file: ck\n  client-cert-auth: true\n  trusted-ca-file: ca\n" +
		"  auto-tls: true\n"
	text := "client-transport-security:\n" + section + "  allowed-hostname: [h1, h2]\npeer-transport-security:\n" + section +
		"  allowed-cn: [n1, n2]\n  skip-client-san-verification: true\n" +
		"cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305]\n" +
		"tls-min-version: TLS1.2\ntls-max-version: TLS1.3\nself-signed-cert-validity: 7\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile, err := Parse("ashlar", []string{"--config-file", file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, side := range []string{"", "peer-"} {
		args = append(args, "--"+side+"cert-file=c", "--"+side+"key-file=k", "--"+side+"client-cert-auth", "--"+side+"trusted-ca-file=ca", "--"+side+"auto-tls")
	}
	args = append(args, "--client-cert-file=cc", "--client-key-file=ck", "--peer-client-cert-file=cc", "--peer-client-key-file=ck",
		"--client-cert-allowed-hostname=h1,h2", "--peer-cert-allowed-cn=n1,n2", "--peer-skip-client-san-verification",
		"--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
		"--tls-min-version=TLS1.2", "--tls-max-version=TLS1.3", "--self-signed-cert-validity=7")
	fromFlags, err := Parse("ashlar", args, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := TLS{Cert: "c", Key: "k", ClientCert: "cc", ClientKey: "ck", CA: "ca", ClientCertAuth: true, Auto: true}
	clients, peers := one, one
	clients.AllowedHostname, peers.AllowedCN, peers.SkipClientSAN = []string{"h1", "h2"}, []string{"n1", "n2"}, true
	for from, c := range map[string]Config{"file": fromFile, "flags": fromFlags} {
		// A list that was given nothing is empty, nil or not.
		for _, list := range []*[]string{&c.ClientTLS.AllowedCN, &c.ClientTLS.AllowedHostname, &c.PeerTLS.AllowedCN, &c.PeerTLS.AllowedHostname} {
			if len(*list) == 0 {
				*list = nil
			}
		}
		if !reflect.DeepEqual(c.ClientTLS, clients) || !reflect.DeepEqual(c.PeerTLS, peers) {
			t.Errorf("from %s: clients %+v, peers %+v", from, c.ClientTLS, c.PeerTLS)
		}
		if !slices.Equal(c.CipherSuites, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}) ||
			c.TLSMinVersion != tls.VersionTLS12 || c.TLSMaxVersion != tls.VersionTLS13 || c.SelfSignedCertValidity != 7 {
			t.Errorf("from %s: suites %x, versions %x to %x, %d years", from, c.CipherSuites, c.TLSMinVersion, c.TLSMaxVersion, c.SelfSignedCertValidity)
		}
	}
}

func TestNamesThatWereGivenAndHoldNoneAreNobodys(t *testing.T) {
	t.Parallel()
	nobody, anybody := []string{""}, []string(nil)
	cases := map[string]struct {
		args, file string
		want       []string
	}{
		"a flag that is not given":      {want: anybody},
		"an empty flag":                 {args: "--peer-cert-allowed-cn=", want: nobody},
		"a flag of empty names":         {args: "--peer-cert-allowed-cn=,,", want: nobody},
		"an empty name beside others":   {args: "--peer-cert-allowed-cn=a,,b,", want: []string{"a", "b"}},
		"a key that is not given":       {file: "  auto-tls: false", want: anybody},
		"a key without a value":         {file: "  allowed-cn:", want: anybody},
		"an empty list":                 {file: "  allowed-cn: []", want: anybody},
		"an empty text":                 {file: "  allowed-cn: ''", want: nobody},
		"a list of an empty name":       {file: "  allowed-cn: ['']", want: nobody},
		"a list of two, one of them ''": {file: "  allowed-cn: ['', a]", want: []string{"a"}},
	}
	for name, c := range cases {
		args := strings.Fields(c.args)
		if c.file != "" {
			path := filepath.Join(t.TempDir(), "config.yaml")
			write(t, path, "peer-transport-security:\n"+c.file+"\n")
			args = []string{"--config-file", path}
		}
		got, err := Parse("ashlar", args, nil)
		if err != nil || !slices.Equal(got.PeerTLS.AllowedCN, c.want) {
			t.Errorf("%s: got %q, %v; want %q", name, got.PeerTLS.AllowedCN, err, c.want)
		}
	}
}

func TestTLSSettingsAreRefusedInEtcdsWords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ args, want string }{
		"a suite that is none":           {"--cipher-suites=FOO", `unexpected TLS cipher suite "FOO"`},
		"suites for TLS 1.3 alone":       {"--tls-min-version=TLS1.3 --cipher-suites=TLS_AES_128_GCM_SHA256", "cipher suites cannot be configured when only TLS1.3 is enabled"},
		"a version below 1.2":            {"--tls-min-version=TLS1.1", `unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		"a version that is none":         {"--tls-max-version=foo", `unexpected TLS version "foo" (must be one of: TLS1.2, TLS1.3)`},
		"versions in the wrong order":    {"--tls-min-version=TLS1.3 --tls-max-version=TLS1.2", "min version (TLS1.3) is greater than max version (TLS1.2)"},
		"peers with TLS, no certificate": {"--listen-peer-urls=https://127.0.0.1:1", "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented"},
	} {
		if _, err := Parse("ashlar", strings.Fields(c.args), nil); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestUselessTLSSettingsAreTold(t *testing.T) {
	t.Parallel()
	c, err := Parse("ashlar", []string{"--cert-file=c", "--key-file=k", "--auto-tls", "--client-cert-auth"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ignoring auto TLS since certificates are given", "an address without TLS ignores the certificate and key files",
		"an address without TLS ignores client certificate authentication"} {
		if !slices.ContainsFunc(c.Notices, func(n Notice) bool { return n.Message == want }) {
			t.Errorf("no notice says %q", want)
		}
	}
}
