package web

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/internal/rpc"
)

// shaken is a listener whose connections have their handshake behind them.
type shaken struct {
	net.Listener
	config *tls.Config
}

func (l shaken) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	done := tls.Server(c, l.config)
	return done, done.Handshake()
}

// cnOf returns the common name of a client, "-" when it showed no certificate.
func cnOf(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return "-"
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// naming serves both halves of a listener: every answer, an error of gRPC or a page, is the name of who asks.
func naming(t *testing.T, lis net.Listener) {
	t.Helper()
	forGRPC, forHTTP := Split(lis)
	g := grpc.NewServer(grpc.Creds(rpc.Credentials()), grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			p, _ := peer.FromContext(ctx)
			if info, ok := p.AuthInfo.(credentials.TLSInfo); ok {
				return nil, errors.New(cnOf(&info.State))
			}
			return nil, errors.New("-")
		}))
	grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	h := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+cnOf(r.TLS))
	})}
	Prepare(h)
	go func() { _ = g.Serve(forGRPC) }()
	go func() { _ = h.Serve(forHTTP) }()
	t.Cleanup(func() {
		g.Stop()
		_ = h.Close()
	})
}

func TestWhoAsksIsKnownToBothServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := authority.New(t, dir, "ca")
	own, alice := ca.Issue(t, "server", authority.Loopback("server")), ca.Issue(t, "alice", authority.Names{CN: "alice"})
	pair, err := tls.LoadX509KeyPair(own.Cert, own.Key)
	if err != nil {
		t.Fatal(err)
	}
	plain, secure := listen(t), listen(t)
	naming(t, plain)
	naming(t, shaken{secure, &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, NextProtos: []string{"h2", "http/1.1"},
	}})
	config := ca.Client(t, &alice)

	for name, c := range map[string]struct {
		lis net.Listener
		tls credentials.TransportCredentials
		cn  string
	}{"clear": {plain, insecure.NewCredentials(), "-"}, "TLS": {secure, credentials.NewTLS(config), "alice"}} {
		conn, err := grpc.NewClient("passthrough:///"+c.lis.Addr().String(), grpc.WithTransportCredentials(c.tls))
		if err != nil {
			t.Fatal(err)
		}
		_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if got := status.Convert(err).Message(); got != c.cn {
			t.Errorf("gRPC, %s: %q, want %q", name, got, c.cn)
		}
		_ = conn.Close()
	}

	var one, two http.Protocols
	one.SetHTTP1(true)
	two.SetHTTP2(true)
	two.SetUnencryptedHTTP2(true)
	for _, c := range []struct {
		url       string
		protocols *http.Protocols
		want      string
	}{
		{"http://" + plain.Addr().String(), &one, "HTTP/1.1 -"},
		{"http://" + plain.Addr().String(), &two, "HTTP/2.0 -"},
		{"https://" + secure.Addr().String(), &one, "HTTP/1.1 alice"},
		{"https://" + secure.Addr().String(), &two, "HTTP/2.0 alice"},
	} {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config.Clone(), Protocols: c.protocols, DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s, want %s: %v", c.url, c.want, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil || string(body) != c.want {
			t.Errorf("got %q, want %q: %v", body, c.want, err)
		}
	}
}
