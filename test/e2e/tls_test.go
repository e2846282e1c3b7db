package e2e

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/test/process"
)

// TestOnePortServesEveryKindOfClient, in the clear, over TLS and with client certificates, on one server with several addresses.
func TestOnePortServesEveryKindOfClient(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t, false)
	secure, plain := e.client, "http://"+process.FreeAddress(t)
	socket := "unixs://" + filepath.Join(shortDir(t), "s")
	e.extra = append(e.extra, "--listen-client-urls", secure+","+plain+","+socket)
	e.start(t)
	mutual := newEncrypted(t, true)
	mutual.start(t)
	inTheClear := &member{client: plain}
	for _, on := range []struct {
		name string
		m    *member
	}{{"in the clear", inTheClear}, {"over TLS", e.member}, {"with client certificates", mutual.member}} {
		for _, a := range askers() {
			t.Run(on.name+", "+a.name, func(t *testing.T) {
				t.Parallel()
				if !program.ours && strings.Contains(a.name, "prior knowledge") {
					t.Skip("etcd takes all HTTP/2 in the clear for gRPC")
				}
				noError(t, a.ask(within(t, process.Patience), on.m))
			})
		}
	}
	t.Run("on a unix socket with TLS", func(t *testing.T) {
		t.Parallel()
		path := strings.TrimPrefix(socket, "unixs://")
		config := e.tls.Clone()
		config.ServerName = "localhost"
		conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithTransportCredentials(credentials.NewTLS(config)),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}))
		noError(t, err)
		defer conn.Close()
		_, err = etcdserverpb.NewKVClient(conn).Range(within(t, process.Patience), &etcdserverpb.RangeRequest{Key: []byte("k")})
		noError(t, err)
	})
}

// shortDir is a directory whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	noError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestEveryKindOfClientIsCheckedAlike: whoever may not connect may not, whatever it speaks. (In etcd the list of revocations
// was once read for one half of a split port only.)
func TestEveryKindOfClientIsCheckedAlike(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t, true)
	revoked := e.ca.Issue(t, "revoked", authority.Names{CN: "root"})
	expired := e.ca.Issue(t, "expired", authority.Names{CN: "root", Expired: true})
	stranger := authority.New(t, e.dir, "another").Issue(t, "stranger", authority.Names{CN: "root"})
	e.extra = append(e.extra, "--client-crl-file", e.ca.Revoke(t, "crl", revoked))
	e.start(t)
	for _, who := range []struct {
		name string
		tls  *tls.Config
		may  bool
	}{
		{"root", e.tls, true},
		{"nobody", e.ca.Client(t, nil), false},
		{"a client that is revoked", e.ca.Client(t, &revoked), false},
		{"a client whose time is over", e.ca.Client(t, &expired), false},
		{"a client of another authority", e.ca.Client(t, &stranger), false},
	} {
		for _, a := range askers() {
			t.Run(who.name+", "+a.name, func(t *testing.T) {
				t.Parallel()
				m := *e.member
				m.tls = who.tls
				ctx, cancel := context.WithTimeout(t.Context(), process.Patience)
				if !who.may {
					ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
				}
				defer cancel()
				if who.tls != nil && a.name == "HTTP/2 with prior knowledge" {
					return
				}
				if err := a.ask(ctx, &m); (err == nil) != who.may {
					t.Errorf("may: %v, got %v", who.may, err)
				}
			})
		}
	}
}

// TestNewCertificatesAreTakenWhileAWatchGoesOn: the server shows the new one, without a restart and without losing a connection.
func TestNewCertificatesAreTakenWhileAWatchGoesOn(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t, true)
	e.start(t)
	ctx := within(t, process.Patience)
	c := e.connect(t)
	events := c.Watch(ctx, "k")
	_, err := c.Put(ctx, "k", "before")
	noError(t, err)
	<-events
	renewed := e.ca.Issue(t, "server", authority.Loopback("server"))
	for e.handshake(t).PeerCertificates[0].SerialNumber.Cmp(renewed.Serial) != 0 {
		noError(t, ctx.Err())
	}
	if program.ours { // etcd takes nobody any more
		noError(t, os.WriteFile(e.server.Key, []byte("broken"), 0o600))
	}
	other := e.connect(t)
	_, err = other.Put(ctx, "k", "after")
	noError(t, err)
	if got := <-events; got.Err() != nil || len(got.Events) != 1 || string(got.Events[0].Kv.Value) != "after" {
		t.Errorf("the watch got %+v", got)
	}
}

// TestAServerMakesItsOwnCertificate, in etcd's place, and keeps it.
func TestAServerMakesItsOwnCertificate(t *testing.T) {
	t.Parallel()
	m := newMember(t, "--auto-tls", "--peer-auto-tls", "--self-signed-cert-validity", "3")
	m.client, m.peer = "https://"+process.FreeAddress(t), "https://"+process.FreeAddress(t)
	m.tls = &tls.Config{InsecureSkipVerify: true}
	e := &encrypted{member: m}
	var serials []string
	for range 2 {
		s := m.start(t)
		_, err := m.connect(t).Put(within(t, process.Patience), "k", "v")
		noError(t, err)
		shown := e.handshake(t).PeerCertificates[0]
		noError(t, shown.VerifyHostname("127.0.0.1"))
		if years := shown.NotAfter.Sub(shown.NotBefore).Hours() / 24 / 365; years < 2.9 || years > 3.1 {
			t.Errorf("valid for %.1f years", years)
		}
		serials = append(serials, shown.SerialNumber.String())
		s.stop(t)
	}
	if serials[0] != serials[1] {
		t.Error("a second start has made another certificate")
	}
	for _, side := range []string{"client", "peer"} {
		for _, file := range []string{"cert.pem", "key.pem"} {
			if _, err := os.Stat(filepath.Join(m.dataDir, "fixtures", side, file)); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestBadCertificatesRefuseTheStart, by name and before anything is served or written.
func TestBadCertificatesRefuseTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a file that is missing":        {[]string{"--cert-file", "none.crt", "--key-file", "none.key"}, "open none.crt: no such file or directory"},
		"no key":                        {[]string{"--cert-file", "none.crt"}, "KeyFile and CertFile must both be present[key: , cert: none.crt]"},
		"no certificate":                {nil, "TLS key/cert (--cert-file, --key-file) must be provided for client url"},
		"a version that is none":        {[]string{"--tls-min-version", "TLS1.1"}, `unexpected TLS version "TLS1.1" (must be one of: TLS1.2, TLS1.3)`},
		"versions in the wrong order":   {[]string{"--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"}, "min version (TLS1.3) is greater than max version (TLS1.2)"},
		"a suite that is none":          {[]string{"--cipher-suites", "FOO"}, `unexpected TLS cipher suite \"FOO\"`},
		"suites that cannot be used":    {[]string{"--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_AES_128_GCM_SHA256"}, "cipher suites cannot be configured when only TLS1.3 is enabled"},
		"a certificate valid for never": {[]string{"--auto-tls", "--self-signed-cert-validity", "0"}, "selfSignedCertValidity is invalid,it should be greater than 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMember(t, c.args...)
			m.client = "https://" + process.FreeAddress(t)
			s := m.launch(t)
			s.WaitEnd(t)
			said := strings.ReplaceAll(s.Log.String(), `\"`, `"`)
			if s.State().ExitCode() != 1 || !strings.Contains(said, strings.ReplaceAll(c.says, `\"`, `"`)) {
				t.Errorf("%v, want exit status 1 and %q; it says:\n%s", s.State(), c.says, s.Log.String())
			}
			if _, err := os.Stat(m.dataDir); program.ours && err == nil {
				t.Error("the data directory was made")
			}
		})
	}
}

// TestAWatchIsNotStarvedByLargeRangesOnItsConnection: in etcd such a watch got nothing for as long as the ranges went on (its issue
// 15402). How long an event takes is measured by BenchmarkWatchBesideLargeRanges.
func TestAWatchIsNotStarvedByLargeRangesOnItsConnection(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t, true)
	e.start(t)
	ctx, cancel := context.WithCancel(within(t, process.Patience))
	writer, busy := e.connect(t), e.connect(t)
	fillLarge(t, writer)
	var running sync.WaitGroup
	var done atomic.Int64
	for range largeRanges {
		running.Go(func() {
			if err := readLarge(ctx, busy, &done); err != nil {
				t.Error(err)
			}
		})
	}
	events := busy.Watch(ctx, "watched", clientv3.WithCreatedNotify())
	<-events
	for range 20 {
		_, err := writer.Put(ctx, "watched", "v")
		noError(t, err)
		if got := <-events; got.Err() != nil || len(got.Events) != 1 {
			t.Fatalf("the watch got %+v: %v", got, ctx.Err())
		}
	}
	cancel()
	running.Wait()
}

// TestACertificateNamesItsUser: with --client-cert-auth a client without a token is who its certificate says.
func TestACertificateNamesItsUser(t *testing.T) {
	t.Parallel()
	e := newEncrypted(t, true)
	e.start(t)
	ctx := within(t, process.Patience)
	root := e.connect(t)
	_, err := root.UserAdd(ctx, "root", "secret")
	noError(t, err)
	_, err = root.UserGrantRole(ctx, "root", "root")
	noError(t, err)
	_, err = root.UserAdd(ctx, "alice", "secret")
	noError(t, err)
	_, err = root.RoleAdd(ctx, "reader")
	noError(t, err)
	_, err = root.RoleGrantPermission(ctx, "reader", "a", "", clientv3.PermissionType(clientv3.PermRead))
	noError(t, err)
	_, err = root.UserGrantRole(ctx, "alice", "reader")
	noError(t, err)
	_, err = root.AuthEnable(ctx)
	noError(t, err)

	_, err = root.Put(ctx, "a", "v")
	noError(t, err)
	issued := e.ca.Issue(t, "alice", authority.Names{CN: "alice"})
	as := *e.member
	as.tls = e.ca.Client(t, &issued)
	alice := as.connect(t)
	r, err := alice.Get(ctx, "a")
	noError(t, err)
	if len(r.Kvs) != 1 {
		t.Errorf("alice reads %v", r.Kvs)
	}
	if _, err := alice.Put(ctx, "a", "w"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("alice writes: %v", err)
	}
	if _, err := alice.Get(ctx, "b"); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("alice reads another key: %v", err)
	}
}
