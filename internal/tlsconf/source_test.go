package tlsconf

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/authority"
)

func TestWhoMayConnect(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	alice := l.ca.Issue(t, "alice", authority.Names{CN: "alice"})
	bob := l.ca.Issue(t, "bob", authority.Loopback("bob"))
	nameless := l.ca.Issue(t, "nameless", authority.Names{Hosts: []string{"m1.example"}})
	host := l.ca.Issue(t, "host", authority.Names{CN: "host", Hosts: []string{"m1.example"}})
	elsewhere := l.ca.Issue(t, "elsewhere", authority.Names{CN: "elsewhere", IPs: []string{"10.1.2.3"}})
	revoked := l.ca.Issue(t, "revoked", authority.Loopback("alice"))
	expired := l.ca.Issue(t, "expired", authority.Names{CN: "alice", Expired: true})
	stranger := l.another.Issue(t, "stranger", authority.Loopback("alice"))
	crl := l.ca.Revoke(t, "crl.der", revoked)
	for _, c := range []struct {
		name   string
		change func(*Options)
		client *authority.Issued
		want   bool
	}{
		{"without a CA nobody needs a certificate", func(o *Options) { o.CA = "" }, nil, true},
		{"without a CA any certificate is as good as none", func(o *Options) { o.CA = "" }, &stranger, true},
		{"with a CA everybody needs one", nil, nil, false},
		{"one of the CA", nil, &alice, true},
		{"one of another CA", nil, &stranger, false},
		{"one that is over", nil, &expired, false},
		{"one that is revoked, without a list", nil, &revoked, true},
		{"one that is revoked", func(o *Options) { o.CRL = crl }, &revoked, false},
		{"one that is not on the list", func(o *Options) { o.CRL = crl }, &alice, true},
		{"a common name that is allowed", func(o *Options) { o.AllowedCN = []string{"carol", "alice"} }, &alice, true},
		{"a common name that is not", func(o *Options) { o.AllowedCN = []string{"carol", "alice"} }, &bob, false},
		{"no common name, where an empty one is allowed", func(o *Options) { o.AllowedCN = []string{""} }, &nameless, false},
		{"a common name, where an empty one is allowed", func(o *Options) { o.AllowedCN = []string{""} }, &alice, false},
		{"a host, where an empty one is allowed", func(o *Options) { o.AllowedHostname = []string{""} }, &host, false},
		{"a host that is allowed", func(o *Options) { o.AllowedHostname = []string{"m1.example"} }, &host, true},
		{"a host that is not", func(o *Options) { o.AllowedHostname = []string{"m1.example"} }, &bob, false},
		{"a common name that looks like a host that is allowed", func(o *Options) { o.AllowedHostname = []string{"alice"} }, &alice, false},
		{"a certificate without addresses, from anywhere", func(o *Options) { o.CheckSAN = true }, &alice, true},
		{"the right address", func(o *Options) { o.CheckSAN = true }, &bob, true},
		{"a wrong address", func(o *Options) { o.CheckSAN = true }, &elsewhere, false},
		{"a wrong address that nobody checks", nil, &elsewhere, true},
		{"demanded without a CA: the system's do not know it", func(o *Options) { o.CA, o.ClientCertAuth = "", true }, &alice, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := l.options()
			if c.change != nil {
				c.change(&o)
			}
			address := l.serve(t, l.open(t, o))
			if got := may(t, address, l.ca.Client(t, c.client)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestVersionsAndSuitesAreKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	o := l.options()
	o.CA, o.MaxVersion = "", tls.VersionTLS12
	o.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
	address := l.serve(t, l.open(t, o))
	conn, err := connect(address, l.ca.Client(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if s := conn.ConnectionState(); s.Version != tls.VersionTLS12 || s.CipherSuite != o.CipherSuites[0] {
		t.Errorf("version %x, suite %x", s.Version, s.CipherSuite)
	}
	old := l.ca.Client(t, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if may(t, address, old) {
		t.Error("TLS 1.1 was taken")
	}
}

func TestChangedFilesAreReadAndConnectionsStay(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	alice := l.ca.Issue(t, "alice", authority.Names{CN: "alice"})
	o := l.options()
	o.CRL = l.ca.Revoke(t, "crl.der")
	address := l.serve(t, l.open(t, o))
	client := l.ca.Client(t, &alice)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	first, err := connect(address, client)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	renewed := l.ca.Issue(t, "server", authority.Loopback("server"))
	shown := func() string {
		t.Helper()
		conn, err := connect(address, l.ca.Client(t, &alice))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got := shown(); got != l.server.Serial.String() {
		t.Errorf("within the second it shows %s, want the old one %s", got, l.server.Serial)
	}
	l.clock.Advance(checkEvery)
	if got := shown(); got != renewed.Serial.String() {
		t.Errorf("it shows %s, want the new one %s", got, renewed.Serial)
	}

	if err := os.WriteFile(renewed.Cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.clock.Advance(checkEvery)
		if got := shown(); got != renewed.Serial.String() {
			t.Errorf("with bad files it shows %s, want the last good one %s", got, renewed.Serial)
		}
	}
	if n := l.log.count("cannot be used"); n != 1 {
		t.Errorf("the log says it %d times, want once", n)
	}
	last := l.ca.Issue(t, "server", authority.Loopback("server"))
	l.clock.Advance(checkEvery)
	if got := shown(); got != last.Serial.String() {
		t.Errorf("after bad files it shows %s, want %s", got, last.Serial)
	}

	l.ca.Revoke(t, "crl.der", alice)
	l.clock.Advance(checkEvery)
	if may(t, address, client) {
		t.Error("a revoked client has resumed its session")
	}
	if err := echo(first); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

// TestAFileThatCannotBeUsedHoldsUpNoOther breaks one file and changes another one.
func TestAFileThatCannotBeUsedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	replace := func(t *testing.T, from, to string) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type names struct {
		*lab
		crl               string
		alice, bob, carol authority.Issued // carol's is of another authority
		ours              authority.Issued // of connections that the server opens
	}
	certificate := func(t *testing.T, x *names) {
		t.Helper()
		kept := x.server.Key + ".kept"
		replace(t, x.server.Key, kept)
		x.server = x.ca.Issue(t, "server", authority.Loopback("server"))
		replace(t, kept, x.server.Key) // the key is yet to come
	}
	authorities := func(t *testing.T, x *names) { t.Helper(); replace(t, x.crl, x.ca.File) }
	revocations := func(t *testing.T, x *names) { t.Helper(); replace(t, x.ca.File, x.crl) }
	ours := func(t *testing.T, x *names) { t.Helper(); replace(t, x.crl, x.ours.Cert) }
	revokeAlice := func(t *testing.T, x *names) { t.Helper(); x.ca.Revoke(t, "crl.der", x.alice, x.bob) }
	otherAuthority := func(t *testing.T, x *names) { t.Helper(); replace(t, x.another.File, x.ca.File) }
	renewed := func(t *testing.T, x *names) {
		t.Helper()
		x.server = x.ca.Issue(t, "server", authority.Loopback("server"))
	}
	for name, c := range map[string]struct {
		broken, changed func(*testing.T, *names)
		alice, carol    bool // may connect
		shown           bool // the server shows a new certificate
	}{
		"a certificate without its key, and revocations": {certificate, revokeAlice, false, false, false},
		"a certificate without its key, and authorities": {certificate, otherAuthority, false, true, false},
		"authorities, and revocations":                   {authorities, revokeAlice, false, false, false},
		"authorities, and a certificate":                 {authorities, renewed, true, false, true},
		"revocations, and authorities":                   {revocations, otherAuthority, false, true, false},
		"revocations, and a certificate":                 {revocations, renewed, true, false, true},
		"the certificate of clients, and revocations":    {ours, revokeAlice, false, false, false},
		"the certificate of clients, and a certificate":  {ours, renewed, true, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &names{lab: newLab(t)}
			x.alice, x.bob = x.ca.Issue(t, "alice", authority.Names{CN: "alice"}), x.ca.Issue(t, "bob", authority.Names{CN: "bob"})
			x.carol, x.ours = x.another.Issue(t, "carol", authority.Names{CN: "carol"}), x.ca.Issue(t, "ours", authority.Names{})
			x.crl = x.ca.Revoke(t, "crl.der", x.bob)
			o := x.options()
			o.CRL, o.ClientCert, o.ClientKey = x.crl, x.ours.Cert, x.ours.Key
			s := x.open(t, o)
			address, before := x.serve(t, s), x.server.Serial
			alice, bob, carol := x.ca.Client(t, &x.alice), x.ca.Client(t, &x.bob), x.ca.Client(t, &x.carol)
			c.broken(t, x)
			c.changed(t, x)
			for range 2 {
				x.clock.Advance(checkEvery)
				for who, client := range map[string]*tls.Config{"alice": alice, "bob": bob, "carol": carol} {
					want := who == "alice" && c.alice || who == "carol" && c.carol
					if got := may(t, address, client); got != want {
						t.Errorf("%s may connect: %v, want %v", who, got, want)
					}
				}
				want := before
				if c.shown {
					want = x.server.Serial
				}
				if got := s.current.Load().cert.Leaf.SerialNumber; got.Cmp(want) != 0 {
					t.Errorf("it shows %s, want %s", got, want)
				}
				if got := s.current.Load().client().Leaf.SerialNumber; got.Cmp(x.ours.Serial) != 0 {
					t.Errorf("it shows servers %s, want %s", got, x.ours.Serial)
				}
			}
			if n := x.log.count("cannot be used"); n != 1 {
				t.Errorf("the log says it %d times, want once", n)
			}
		})
	}
}

// TestFilesThatArePutBackAreReadAgain: what was taken of those in between does not stay, though the files are the very ones of the start.
func TestFilesThatArePutBackAreReadAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	alice, carol := l.ca.Issue(t, "alice", authority.Names{CN: "alice"}), l.another.Issue(t, "carol", authority.Names{CN: "carol"})
	o := l.options()
	o.CRL = l.ca.Revoke(t, "crl.der")
	address := l.serve(t, l.open(t, o))
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	wantOnly := func(when string, alices bool) {
		t.Helper()
		l.clock.Advance(checkEvery)
		a, c := may(t, address, l.ca.Client(t, &alice)), may(t, address, l.ca.Client(t, &carol))
		if a != alices || c == alices {
			t.Errorf("%s: alice may connect: %v, carol of the other authority: %v", when, a, c)
		}
	}
	wantOnly("at first", true)
	move(l.ca.File, l.ca.File+".kept")
	move(o.CRL, o.CRL+".kept") // and there is none
	move(l.another.File, l.ca.File)
	wantOnly("with the other authority", false)
	move(l.ca.File, l.another.File)
	move(l.ca.File+".kept", l.ca.File)
	move(o.CRL+".kept", o.CRL)
	wantOnly("with all as it was", true)
}

func TestAnAuthorityThatIsNoLongerTrustedEndsItsSessions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	alice := l.ca.Issue(t, "alice", authority.Names{CN: "alice"})
	carol := l.another.Issue(t, "carol", authority.Names{CN: "carol"})
	address := l.serve(t, l.open(t, l.options()))
	client := l.ca.Client(t, &alice)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	resumed := func() bool {
		t.Helper()
		conn, err := connect(address, client)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().DidResume
	}
	if resumed(); !resumed() {
		t.Fatal("no session was resumed: the test shows nothing")
	}
	text, err := os.ReadFile(l.another.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.ca.File, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l.clock.Advance(checkEvery)
	if may(t, address, client) {
		t.Error("a client of the old authority has resumed its session")
	}
	if !may(t, address, l.ca.Client(t, &carol)) {
		t.Error("a client of the new authority is refused")
	}
}

func TestBadFilesAreRefusedByName(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	missing, text := filepath.Join(l.dir, "missing"), filepath.Join(l.dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := l.ca.Issue(t, "other", authority.Loopback("other"))
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"a certificate that is missing", func(o *Options) { o.Cert = missing }, "open " + missing + ": no such file"},
		{"a key that is missing", func(o *Options) { o.Key = missing }, "open " + missing + ": no such file"},
		{"a certificate that is none", func(o *Options) { o.Cert = text }, text},
		{"the key of another certificate", func(o *Options) { o.Key = other.Key }, other.Key},
		{"authorities that are missing", func(o *Options) { o.CA = missing }, missing},
		{"a file without authorities", func(o *Options) { o.CA = text }, text + ": no certificate in PEM found"},
		{"revocations that are missing", func(o *Options) { o.CRL = missing }, missing},
		{"revocations that are none", func(o *Options) { o.CRL = text }, "CRL file " + text},
		{"a client certificate that is none", func(o *Options) { o.ClientCert, o.ClientKey = text, other.Key }, text},
		{"no key", func(o *Options) { o.Key = "" }, "KeyFile and CertFile must both be present[key: , cert: " + l.server.Cert + "]"},
		{"no key of the client certificate", func(o *Options) { o.ClientCert = other.Cert }, "ClientKeyFile and ClientCertFile must both be present"},
		{"both kinds of names", func(o *Options) { o.AllowedCN, o.AllowedHostname = []string{"a"}, []string{"b"} },
			`AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b"])`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := l.options()
			c.change(&o)
			if _, err := Open(o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	o := l.options()
	o.Cert, o.Key = "", ""
	if _, err := l.open(t, o).Server(); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("a server without a certificate: %v", err)
	}
}

func TestAMemberDialsWithTheNewestMaterial(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	own := l.ca.Issue(t, "own", authority.Names{CN: "m1"})
	served := l.options()
	served.AllowedCN = []string{"m1"}
	address := l.serve(t, l.open(t, served))
	o := l.options()
	o.Cert, o.Key, o.ClientCert, o.ClientKey = l.server.Cert, l.server.Key, own.Cert, own.Key
	o.CRL = l.ca.Revoke(t, "crl.der")
	s := l.open(t, o)
	dial := func() error {
		conn, err := s.Dialing(&net.Dialer{})(t.Context(), "tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		return echo(conn)
	}
	if err := dial(); err != nil {
		t.Errorf("with a client certificate of its own: %v", err)
	}
	l.ca.Issue(t, "own", authority.Names{CN: "m2"})
	l.clock.Advance(checkEvery)
	if dial() == nil {
		t.Error("the new client certificate was not shown")
	}
	l.ca.Issue(t, "own", authority.Names{CN: "m1"})
	l.ca.Revoke(t, "crl.der", l.server)
	l.clock.Advance(checkEvery)
	if err := dial(); !errors.Is(err, ErrRevoked) {
		t.Errorf("a server that is revoked: %v", err)
	}
	o.CRL, o.CA = "", l.another.File
	if conn, err := l.open(t, o).Dialing(&net.Dialer{})(t.Context(), "tcp", address); err == nil {
		_ = conn.Close()
		t.Error("a server of an unknown authority was taken")
	}
}

func TestACertificateThatIsToHaveNoNameGetsNone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	named := l.ca.Issue(t, "named", authority.Names{CN: "root"})
	own := l.ca.Issue(t, "own", authority.Names{})
	o := l.options()
	o.Nameless = true
	for _, c := range []struct {
		name   string
		change func(*Options)
		file   string
	}{
		{"as that of clients alone", func(o *Options) { o.ClientCert, o.ClientKey = named.Cert, named.Key }, named.Cert},
		{"as the only one", func(o *Options) { o.Cert, o.Key = named.Cert, named.Key }, named.Cert},
	} {
		o := o
		c.change(&o)
		refused := (*NamedError)(nil)
		if _, err := Open(o); !errors.As(err, &refused) || *refused != (NamedError{"root", c.file}) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	o.ClientCert, o.ClientKey = own.Cert, own.Key
	s := l.open(t, o)
	shown := func() string {
		t.Helper()
		c, err := s.Client().GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.Subject.CommonName + " " + c.Leaf.SerialNumber.String()
	}
	first := shown()
	l.ca.Issue(t, "own", authority.Names{CN: "root"})
	l.clock.Advance(checkEvery)
	if got := shown(); got != first {
		t.Errorf("a new one with a name was taken: %q", got)
	}
	if l.log.count("non empty Common Name (root)") != 1 {
		t.Error("the log does not say why")
	}
	next := l.ca.Issue(t, "own", authority.Names{})
	l.clock.Advance(checkEvery)
	if got := shown(); got != " "+next.Serial.String() {
		t.Errorf("a new one without a name was not taken: %q", got)
	}
}

func TestACertificateIsMadeOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	dir := filepath.Join(l.dir, "fixtures", "client")
	if _, _, err := SelfSigned(dir, nil, 0, time.Now()); !errors.Is(err, ErrNoValidity) {
		t.Errorf("valid for no time: %v", err)
	}
	cert, key, err := SelfSigned(dir, []string{"127.0.0.1", "localhost"}, 2, l.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Cert: cert, Key: key, SelfSigned: true, Side: "peer", Clock: l.clock, Logger: l.options().Logger}
	s := l.open(t, o)
	address := l.serve(t, s)
	conn, err := s.Dialing(&net.Dialer{})(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	if err := errors.Join(leaf.VerifyHostname("127.0.0.1"), leaf.VerifyHostname("localhost")); err != nil {
		t.Error(err)
	}
	if d := leaf.NotAfter.Sub(leaf.NotBefore); d != 2*year {
		t.Errorf("valid for %v", d)
	}
	if _, _, err := SelfSigned(dir, nil, 1, time.Now()); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(cert); err != nil || string(after) != string(before) {
		t.Errorf("it was made again: %v", err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key may be read by others: %v, %v", info.Mode(), err)
	}
	for _, file := range []string{cert, key} {
		if err := os.Truncate(file, 0); err != nil { // as a loss of power may
			t.Fatal(err)
		}
		if _, _, err := SelfSigned(dir, nil, 1, l.clock.Now()); err != nil {
			t.Fatal(err)
		}
		l.open(t, o)
	}
}
