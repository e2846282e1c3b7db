package proxy

import (
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/internal/config"
)

// seesNoVerification is in front of a member whose certificate nobody vouches for.
func seesNoVerification(t *testing.T, flag string) {
	up := runMember(t, func(c *config.Config) {
		c.ListenClientURLs = urls(t, strings.Replace(c.ListenClientURLs.String(), "http", "https", 1))
		c.AdvertiseClientURLs = c.ListenClientURLs
		c.ClientTLS.Auto = true
	})
	for value, refused := range map[string]bool{"true": false, "false": true} {
		_, err := runProxy(t, "https://"+up.address, "--"+flag+"="+value).client(t).Put(soon(t), "k", "v")
		if (err != nil) != refused || err != nil && !strings.Contains(err.Error(), "x509") {
			t.Errorf("--%s=%s: %v", flag, value, err)
		}
	}
}

// served runs a proxy with a certificate in front of nobody, and returns its address.
func served(t *testing.T, ca *authority.Authority, flags ...string) string {
	t.Helper()
	own := ca.Issue(t, "server", authority.Loopback("server"))
	return runProxy(t, mute(t).Addr().String(), append(flags, "--cert-file="+own.Cert, "--key-file="+own.Key)...).addresses[0]
}

// meet shakes hands, and tells how, once the proxy has sent something.
func meet(address string, c *tls.Config) (state tls.ConnectionState, err error) {
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return state, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return state, err
	}
	_, err = conn.Read(make([]byte, 1))
	return conn.ConnectionState(), err
}

func seesRevoked(t *testing.T, flag string) {
	ca := authority.New(t, t.TempDir(), "ca")
	good, bad := ca.Issue(t, "good", authority.Names{CN: "good"}), ca.Issue(t, "bad", authority.Names{CN: "bad"})
	at := served(t, ca, "--trusted-ca-file="+ca.File, "--"+flag+"="+ca.Revoke(t, "list", bad))
	if _, err := meet(at, ca.Client(t, &good)); err != nil {
		t.Errorf("with a certificate that is good: %v", err)
	}
	if _, err := meet(at, ca.Client(t, &bad)); err == nil {
		t.Error("a revoked certificate is taken")
	}
}

// seesVersions shakes hands in a way that the flag allows, and in one that it does not.
func seesVersions(t *testing.T, flag string) {
	ca := authority.New(t, t.TempDir(), "ca")
	good, bad := ca.Client(t, nil), ca.Client(t, nil)
	value := "TLS1.3"
	switch flag {
	case "tls-min-version":
		bad.MaxVersion = tls.VersionTLS12
	case "tls-max-version":
		value, bad.MinVersion = "TLS1.2", tls.VersionTLS13
	default:
		value = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
		good.MaxVersion, bad.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		bad.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
	}
	at := served(t, ca, "--"+flag+"="+value)
	if _, err := meet(at, good); err != nil {
		t.Errorf("what it allows: %v", err)
	}
	if _, err := meet(at, bad); err == nil {
		t.Error("what it does not allow is done")
	}
}

// seesMadeCertificate looks where the certificate is and how long it is valid.
func seesMadeCertificate(t *testing.T, _ string) {
	dir := t.TempDir()
	at := runProxy(t, mute(t).Addr().String(), "--auto-tls", "--data-dir="+dir, "--self-signed-cert-validity=3").addresses[0]
	state, err := meet(at, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	if valid := time.Until(state.PeerCertificates[0].NotAfter); valid < 2*365*24*time.Hour || valid > 4*365*24*time.Hour {
		t.Errorf("it is valid for %v", valid)
	}
	if _, err := os.Stat(filepath.Join(dir, "fixtures", "proxy", "cert.pem")); err != nil {
		t.Error(err)
	}
}
