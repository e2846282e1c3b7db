package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/internal/config"
)

// keyring is an authority, another one that nobody trusts, and certificates.
type keyring struct {
	dir           string
	ca, another   *authority.Authority
	server, alice authority.Issued // alice's holds no names but her common one
	named         authority.Issued // for the host a.example
	stranger      authority.Issued // of the other authority
}

func newKeyring(t *testing.T) *keyring {
	t.Helper()
	dir := t.TempDir()
	k := &keyring{dir: dir, ca: authority.New(t, dir, "ca"), another: authority.New(t, dir, "another")}
	k.server = k.ca.Issue(t, "server", authority.Loopback("server"))
	k.alice = k.ca.Issue(t, "alice", authority.Names{CN: "alice"})
	k.named = k.ca.Issue(t, "named", authority.Names{CN: "named", Hosts: []string{"a.example"}})
	k.stranger = k.another.Issue(t, "stranger", authority.Names{CN: "alice"})
	return k
}

// shows is a client that trusts the authority and shows a certificate, or none.
func (k *keyring) shows(t *testing.T, own *authority.Issued) *tls.Config { return k.ca.Client(t, own) }

// side is one of the two sides of a member that have settings of TLS.
type side struct {
	prefix string // of its flags
	base   []string
	listen func(e *encryption, forClients, forPeers []net.Listener) net.Listener
}

var (
	ofClients = side{"", []string{"--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:1",
		"--listen-peer-urls=http://127.0.0.1:0"},
		func(e *encryption, clients, _ []net.Listener) net.Listener { return e.forClients(0, clients[0]) }}
	ofPeers = side{"peer-", []string{"--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1",
		"--listen-peer-urls=https://127.0.0.1:0", "--initial-advertise-peer-urls=https://127.0.0.1:1"},
		func(e *encryption, _, peers []net.Listener) net.Listener { e.forPeers(peers); return peers[0] }}
)

// withCertificate are the flags of a certificate.
func (s side) withCertificate(k *keyring) []string {
	return []string{"--" + s.prefix + "cert-file=" + k.server.Cert, "--" + s.prefix + "key-file=" + k.server.Key}
}

// demanding are those, and the demand of a certificate of the authority.
func (s side) demanding(k *keyring) []string {
	return append(s.withCertificate(k), "--"+s.prefix+"trusted-ca-file="+k.ca.File, "--"+s.prefix+"client-cert-auth")
}

// serve echoes on the side's address, with these flags beside the side's own, and returns where that is.
func (s side) serve(t *testing.T, args ...string) string {
	t.Helper()
	return s.serveConfig(t, parsed(t, append(append([]string{"--data-dir=" + t.TempDir()}, s.base...), args...)...))
}

func (s side) serveConfig(t *testing.T, cfg config.Config) string {
	t.Helper()
	forClients, forPeers, err := Listen(t.Context(), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := encrypt(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	lis := s.listen(e, forClients, forPeers)
	t.Cleanup(func() { _ = lis.Close(); _ = closeAll(append(forClients, forPeers...)) })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return lis.Addr().String()
}

// meet connects, and returns how when both sides have agreed.
func meet(address string, c *tls.Config) (state tls.ConnectionState, err error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return state, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{1}); err != nil {
		return state, err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return conn.ConnectionState(), err
}

// admits wants the address to admit one client and to refuse the other.
func admits(t *testing.T, address string, good, bad *tls.Config) {
	t.Helper()
	if _, err := meet(address, good); err != nil {
		t.Errorf("refused: %v", err)
	}
	if _, err := meet(address, bad); err == nil {
		t.Error("a client is admitted that must not be")
	}
}

// admitting is admits for flags and clients made from a keyring. The flag under test is told apart by what the bad client would pass without.
func (s side) admitting(of func(t *testing.T, k *keyring, name string) (args []string, good, bad *tls.Config)) proof {
	return func(t *testing.T, _ *flagLab, name string) {
		args, good, bad := of(t, newKeyring(t), name)
		admits(t, s.serve(t, args...), good, bad)
	}
}

// serverProof: who trusts another authority does not take the server's certificate.
func (s side) serverProof() proof {
	return s.admitting(func(t *testing.T, k *keyring, _ string) ([]string, *tls.Config, *tls.Config) {
		return s.withCertificate(k), k.shows(t, nil), k.another.Client(t, nil)
	})
}

func (s side) demandProof() proof {
	return s.admitting(func(t *testing.T, k *keyring, _ string) ([]string, *tls.Config, *tls.Config) {
		return s.demanding(k), k.shows(t, &k.alice), k.shows(t, nil)
	})
}

func (s side) authorityProof() proof {
	return s.admitting(func(t *testing.T, k *keyring, _ string) ([]string, *tls.Config, *tls.Config) {
		return s.demanding(k), k.shows(t, &k.alice), k.shows(t, &k.stranger)
	})
}

func (s side) revokedProof() proof {
	return s.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		revoked := k.ca.Issue(t, "revoked", authority.Names{CN: "alice"})
		list := k.ca.Revoke(t, "list", revoked)
		return append(s.demanding(k), "--"+name+"="+list), k.shows(t, &k.alice), k.shows(t, &revoked)
	})
}

func (s side) hostnameProof(more ...string) proof {
	return s.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		return append(append(s.demanding(k), "--"+name+"=b.example,a.example"), more...), k.shows(t, &k.named), k.shows(t, &k.alice)
	})
}

// autoProof: the certificate is made, so no authority vouches for it.
func (s side) autoProof() proof {
	return s.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		return []string{"--" + name}, &tls.Config{InsecureSkipVerify: true}, k.shows(t, nil)
	})
}

// tlsProofs shake hands on both sides of a member.
var tlsProofs = map[string]proof{
	"cert-file": ofClients.serverProof(), "key-file": ofClients.serverProof(),
	"client-cert-auth": ofClients.demandProof(), "trusted-ca-file": ofClients.authorityProof(),
	"client-crl-file": ofClients.revokedProof(), "client-cert-allowed-hostname": ofClients.hostnameProof(),
	"auto-tls":         ofClients.autoProof(),
	"client-cert-file": checked, "client-key-file": checked,
	"peer-cert-file": ofPeers.serverProof(), "peer-key-file": ofPeers.serverProof(),
	"peer-client-cert-auth": ofPeers.demandProof(), "peer-trusted-ca-file": ofPeers.authorityProof(),
	"peer-crl-file": ofPeers.revokedProof(), "peer-auto-tls": ofPeers.autoProof(),
	"peer-cert-allowed-hostname": ofPeers.hostnameProof("--peer-skip-client-san-verification"),
	"peer-cert-allowed-cn": ofPeers.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		bob := k.ca.Issue(t, "bob", authority.Names{CN: "bob"})
		return append(ofPeers.demanding(k), "--"+name+"=alice"), k.shows(t, &k.alice), k.shows(t, &bob)
	}),
	"peer-client-cert-file": shown, "peer-client-key-file": shown,
	"peer-skip-client-san-verification": func(t *testing.T, _ *flagLab, name string) {
		k := newKeyring(t)
		admits(t, ofPeers.serve(t, ofPeers.demanding(k)...), k.shows(t, &k.alice), k.shows(t, &k.named))
		admits(t, ofPeers.serve(t, append(ofPeers.demanding(k), "--"+name)...), k.shows(t, &k.named), k.shows(t, nil))
	},
	"tls-min-version": ofClients.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		old := k.shows(t, nil)
		old.MaxVersion = tls.VersionTLS12
		return append(ofClients.withCertificate(k), "--"+name+"=TLS1.3"), k.shows(t, nil), old
	}),
	"tls-max-version": ofClients.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		modern := k.shows(t, nil)
		modern.MinVersion = tls.VersionTLS13
		return append(ofClients.withCertificate(k), "--"+name+"=TLS1.2"), k.shows(t, nil), modern
	}),
	"cipher-suites": ofClients.admitting(func(t *testing.T, k *keyring, name string) ([]string, *tls.Config, *tls.Config) {
		good, bad := k.shows(t, nil), k.shows(t, nil)
		good.MaxVersion, bad.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		bad.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		return append(ofClients.withCertificate(k), "--"+name+"=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"), good, bad
	}),
	"self-signed-cert-validity": func(t *testing.T, _ *flagLab, name string) {
		state, err := meet(ofClients.serve(t, "--auto-tls", "--"+name+"=3"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if valid := time.Until(state.PeerCertificates[0].NotAfter); valid < 2*365*24*time.Hour || valid > 4*365*24*time.Hour {
			t.Errorf("it is valid for %v", valid)
		}
	},
	"client-transport-security.allowed-cn": inFile("allowed-cn: [alice]", func(t *testing.T, k *keyring, address string) {
		admits(t, address, k.shows(t, &k.alice), k.shows(t, &k.named))
	}),
	// Of clients the names are not verified, as in etcd, but at the addresses for metrics.
	"client-transport-security.skip-client-san-verification": inFile("skip-client-san-verification: false",
		func(t *testing.T, k *keyring, address string) {
			admits(t, address, k.shows(t, &k.named), k.shows(t, nil))
		}),
}

// checked: the gateway's own certificate must be sound, although nobody is shown it.
func checked(t *testing.T, _ *flagLab, name string) {
	k := newKeyring(t)
	args := append(ofClients.base, ofClients.withCertificate(k)...)
	files := map[string]string{"client-cert-file": k.alice.Cert, "client-key-file": k.alice.Key}
	for _, missing := range []bool{false, true} {
		if missing {
			files[name] = filepath.Join(k.dir, "missing")
		}
		cfg := parsed(t, append(args, "--client-cert-file="+files["client-cert-file"], "--client-key-file="+files["client-key-file"])...)
		if _, err := encrypt(&cfg, slog.New(slog.DiscardHandler)); (err != nil) != missing || missing && !strings.Contains(err.Error(), "missing") {
			t.Errorf("the file is missing: %v; got %v", missing, err)
		}
	}
}

// shown: a member that dials another one shows the certificate for that.
func shown(t *testing.T, _ *flagLab, _ string) {
	k := newKeyring(t)
	seen := make(chan []*x509.Certificate, 1)
	pair, err := tls.LoadX509KeyPair(k.server.Cert, k.server.Key)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error { seen <- cs.PeerCertificates; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	go func() {
		if c, err := lis.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	cfg := parsed(t, append(append(ofPeers.base, ofPeers.demanding(k)...), "--peer-client-cert-file="+k.alice.Cert, "--peer-client-key-file="+k.alice.Key)...)
	e, err := encrypt(&cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.dialing.Dialing(peerDialer(&cfg))(context.Background(), "tcp", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := (<-seen)[0].Subject.CommonName; got != "alice" {
		t.Errorf("it shows the certificate of %q", got)
	}
}

// inFile serves clients with a setting that only the file has, and demands certificates.
func inFile(setting string, then func(t *testing.T, k *keyring, address string)) proof {
	return func(t *testing.T, _ *flagLab, _ string) {
		k := newKeyring(t)
		file := filepath.Join(k.dir, "c.yaml")
		write(t, file, "listen-client-urls: https://127.0.0.1:0\nadvertise-client-urls: https://127.0.0.1:1\nlisten-peer-urls: http://127.0.0.1:0\n"+
			"client-transport-security: {cert-file: "+k.server.Cert+", key-file: "+k.server.Key+", trusted-ca-file: "+k.ca.File+
			", client-cert-auth: true, "+setting+"}\n")
		then(t, k, ofClients.serveConfig(t, parsed(t, "--config-file="+file)))
	}
}

func TestAddressesInCertificatesCountAtTheAddressesForMetrics(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	observers := side{"", append(slices.Clone(ofClients.base), "--listen-metrics-urls=https://127.0.0.1:0"),
		func(e *encryption, clients, _ []net.Listener) net.Listener { return e.wrap(clients[0], e.metrics[0]) }}
	admits(t, observers.serve(t, ofClients.demanding(k)...), k.shows(t, &k.alice), k.shows(t, &k.named))
	cfg := parsed(t, append(append([]string{"--data-dir=" + t.TempDir()}, observers.base...), ofClients.demanding(k)...)...)
	cfg.ClientTLS.SkipClientSAN = true
	admits(t, observers.serveConfig(t, cfg), k.shows(t, &k.named), k.shows(t, &k.stranger))
}
