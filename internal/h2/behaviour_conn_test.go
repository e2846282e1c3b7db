package h2_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
)

// certificate returns one that signs itself, and the pool that trusts it.
func certificate(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: secret, Leaf: leaf}, pool
}

// passed are credentials for connections that had their handshake when they were accepted, as rpc's are.
type passed struct {
	credentials.TransportCredentials
}

func (passed) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c, credentials.TLSInfo{State: c.(*tls.Conn).ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

// shaken is a listener whose connections have had their handshake.
type shaken struct {
	net.Listener
	config *tls.Config
}

func (s shaken) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		conn := tls.Server(c, s.config)
		if conn.Handshake() == nil {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// who tells a client what the server knows of it.
func who(ctx context.Context, _ []byte) ([]byte, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, errors.New("no peer")
	}
	if p.Addr == nil || p.LocalAddr == nil {
		return nil, fmt.Errorf("addresses %v and %v", p.Addr, p.LocalAddr)
	}
	out := fmt.Sprintf("%s %s", p.Addr, p.LocalAddr)
	if p.AuthInfo == nil {
		return fmt.Append(nil, out, " nobody"), nil
	}
	out += " " + p.AuthInfo.AuthType()
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
		for _, c := range info.State.VerifiedChains {
			out += " " + c[0].Subject.CommonName
		}
	}
	return []byte(out), nil
}

// TestPeers: whom a handler sees, through each way to connect.
func TestPeers(t *testing.T) {
	serverCert, serverPool := certificate(t, "server")
	clientCert, clientPool := certificate(t, "alice")
	config := &tls.Config{Certificates: []tls.Certificate{serverCert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	mutual := config.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, clientPool
	client := credentials.NewTLS(&tls.Config{RootCAs: serverPool, ServerName: "lab", MinVersion: tls.VersionTLS12})
	alice := credentials.NewTLS(&tls.Config{RootCAs: serverPool, ServerName: "lab", Certificates: []tls.Certificate{clientCert}, MinVersion: tls.VersionTLS12})
	tcp := func(t *testing.T) net.Listener {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return lis
	}
	for _, c := range []struct {
		name   string
		creds  credentials.TransportCredentials
		listen func(t *testing.T) net.Listener
		client credentials.TransportCredentials
		want   string
	}{
		{"plain", nil, tcp, insecure.NewCredentials(), "nobody"},
		{"plain with credentials that say so", insecure.NewCredentials(), tcp, insecure.NewCredentials(), "insecure"},
		{"TLS by the credentials", credentials.NewTLS(config), tcp, client, "tls"},
		{"mTLS by the credentials", credentials.NewTLS(mutual), tcp, alice, "tls alice"},
		{"TLS by the listener", passed{insecure.NewCredentials()}, func(t *testing.T) net.Listener { return shaken{tcp(t), config} }, client, "tls"},
		{"mTLS by the listener", passed{insecure.NewCredentials()}, func(t *testing.T) net.Listener { return shaken{tcp(t), mutual} }, alice, "tls alice"},
		{"a unix socket", nil, func(t *testing.T) net.Listener {
			lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			return lis
		}, insecure.NewCredentials(), "nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, func(t *testing.T, k kind) {
				l := startOn(t, k, c.listen(t), options{creds: c.creds, unary: who, maxRecv: 8 << 20})
				conn := l.dial(t, grpc.WithTransportCredentials(c.client))
				for range 3 {
					o := call(t, conn, "Unary", pattern(3<<20))
					var from, to string
					if l.address.Network() == "unix" {
						from, to = "@", l.address.String()
					} else if _, err := fmt.Sscan(string(o.body), &from, &to); err != nil || to != l.address.String() {
						t.Fatalf("%v: %q, %v", o, o.body, err)
					}
					if want := from + " " + to + " " + c.want; string(o.body) != want && l.address.Network() != "unix" {
						t.Errorf("%q, want %q", o.body, want)
					}
					if l.address.Network() == "unix" && o.status.Code() != codes.OK {
						t.Error(o)
					}
				}
				s := open(deadline(t), t, conn, "Bidi")
				for _, size := range []int{0, 100_000, 2 << 20} {
					say(t, s, pattern(size))
					if out, err := hear(s); err != nil || len(out) != size {
						t.Fatalf("%d bytes, %v", len(out), err)
					}
				}
			})
		})
	}
}

// TestHandshakesThatFail end their connection and nothing else.
func TestHandshakesThatFail(t *testing.T) {
	cert, pool := certificate(t, "server")
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{creds: credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})})
		for name, say := range map[string]string{"a plain client": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "nonsense": "\x16\x03\x01\xff\xff....", "nothing": ""} {
			w := l.plug(t)
			w.raw([]byte(say))
			if c, ok := w.conn.(*net.TCPConn); ok {
				_ = c.CloseWrite()
			}
			if err := w.drained(); errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		conn := l.dial(t, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "lab", MinVersion: tls.VersionTLS12})))
		if o := call(t, conn, "Unary", []byte("x")); o.status.Code() != codes.OK {
			t.Error(o)
		}
	})
}

// TestSeveralListeners serves two at once.
func TestSeveralListeners(t *testing.T) {
	both(t, func(t *testing.T, k kind) {
		l := start(t, k, options{})
		lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		second := make(chan error, 1)
		go func() { second <- l.Serve(lis) }()
		other := &lab{server: l.server, address: lis.Addr()}
		for range 3 {
			for _, conn := range []*grpc.ClientConn{l.dial(t), other.dial(t)} {
				if o := call(t, conn, "Unary", []byte("x")); o.status.Code() != codes.OK {
					t.Error(o)
				}
			}
		}
		// A listener that is closed under it ends its own Serve alone.
		_ = lis.Close()
		if err := receive(t, "Serve of the closed listener", second); err == nil {
			t.Error("Serve of a listener that was closed says nothing")
		}
		if o := call(t, l.dial(t), "Unary", []byte("x")); o.status.Code() != codes.OK {
			t.Error(o)
		}
	})
}
