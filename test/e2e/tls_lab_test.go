package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/ashlar-kv/ashlar/internal/authority"
	"github.com/ashlar-kv/ashlar/test/process"
)

// encrypted is a member that has not run yet, with TLS for its clients.
type encrypted struct {
	*member
	dir    string
	ca     *authority.Authority
	server authority.Issued
}

// newEncrypted makes one. With mutual, its clients need a certificate, and m.tls holds one of root's.
func newEncrypted(tb testing.TB, mutual bool, extra ...string) *encrypted {
	tb.Helper()
	m := newMember(tb, extra...)
	e := &encrypted{member: m, dir: m.workingDir, ca: authority.New(tb, m.workingDir, "ca")}
	e.server = e.ca.Issue(tb, "server", authority.Loopback("server"))
	m.client = "https://" + process.FreeAddress(tb)
	m.extra = append(m.extra, "--cert-file", e.server.Cert, "--key-file", e.server.Key)
	if mutual {
		root := e.ca.Issue(tb, "root", authority.Names{CN: "root"})
		m.extra = append(m.extra, "--client-cert-auth", "--trusted-ca-file", e.ca.File)
		m.tls = e.ca.Client(tb, &root)
		return e
	}
	m.tls = e.ca.Client(tb, nil)
	return e
}

// asker is one kind of client. ask has it do something; nil is an answer of the right kind.
type asker struct {
	name string
	ask  func(ctx context.Context, m *member) error
}

// askers are all kinds of clients that one port must serve.
func askers() []asker {
	versions := func(set func(p *http.Protocols)) *http.Protocols {
		p := new(http.Protocols)
		set(p)
		return p
	}
	one := versions(func(p *http.Protocols) { p.SetHTTP1(true) })
	both := versions(func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) })
	onlyTwo := versions(func(p *http.Protocols) { p.SetHTTP2(true); p.SetUnencryptedHTTP2(true) })
	return []asker{
		{"clientv3", func(ctx context.Context, m *member) error { return askClientV3(ctx, m) }},
		{"grpc-go", askGRPC},
		{"HTTP/1.1", func(ctx context.Context, m *member) error { return askVersion(ctx, m, one, 1) }},
		{"a browser, which offers both versions", func(ctx context.Context, m *member) error {
			if m.tls == nil {
				return askVersion(ctx, m, both, 1)
			}
			return askVersion(ctx, m, both, 2)
		}},
		{"HTTP/2 with prior knowledge", func(ctx context.Context, m *member) error {
			if m.tls != nil {
				return nil // offering h2 alone is what gRPC clients do
			}
			return askVersion(ctx, m, onlyTwo, 2)
		}},
		{"gRPC on a general HTTP library", func(ctx context.Context, m *member) error {
			if m.tls == nil {
				return askRangeByHTTP(ctx, m, onlyTwo)
			}
			return askRangeByHTTP(ctx, m, both)
		}},
		{"gRPC on a general HTTP library that offers HTTP/2 alone", func(ctx context.Context, m *member) error {
			return askRangeByHTTP(ctx, m, onlyTwo)
		}},
	}
}

func (m *member) httpClient(p *http.Protocols) *http.Client {
	t := &http.Transport{Protocols: p, DisableKeepAlives: true}
	if m.tls != nil {
		t.TLSClientConfig = m.tls.Clone()
	}
	return &http.Client{Transport: t}
}

func askVersion(ctx context.Context, m *member, p *http.Protocols, major int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.client+"/version", nil)
	if err != nil {
		return err
	}
	resp, err := m.httpClient(p).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ProtoMajor != major || !bytes.Contains(body, []byte("etcdserver")) {
		return fmt.Errorf("%s with %s: %q, %v", resp.Status, resp.Proto, body, err)
	}
	return nil
}

// askRangeByHTTP makes a gRPC request by hand.
func askRangeByHTTP(ctx context.Context, m *member, p *http.Protocols) error {
	message, err := proto.Marshal(&etcdserverpb.RangeRequest{Key: []byte("k")})
	if err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.client+"/etcdserverpb.KV/Range", bytes.NewReader(append(frame, message...)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("TE", "trailers")
	resp, err := m.httpClient(p).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if status := resp.Trailer.Get("Grpc-Status"); err != nil || status != "0" || len(body) < 5 {
		return fmt.Errorf("%s, gRPC status %q, %d bytes, %v", resp.Status, status, len(body), err)
	}
	return nil
}

func askGRPC(ctx context.Context, m *member) error {
	creds := insecure.NewCredentials()
	if m.tls != nil {
		creds = credentials.NewTLS(m.tls)
	}
	_, address, _ := bytes.Cut([]byte(m.client), []byte("://"))
	conn, err := grpc.NewClient("passthrough:///"+string(address), grpc.WithTransportCredentials(creds))
	if err != nil {
		return err
	}
	_, err = etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("k")}, grpc.WaitForReady(false))
	return errors.Join(err, conn.Close())
}

func askClientV3(ctx context.Context, m *member) error {
	c, err := newClient(m)
	if err != nil {
		return err
	}
	_, err = c.Get(ctx, "k")
	return errors.Join(err, c.Close())
}

// handshake connects and returns what the server has shown.
func (e *encrypted) handshake(tb testing.TB) tls.ConnectionState {
	tb.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: process.Patience}, "tcp", e.client[len("https://"):], e.tls)
	noError(tb, err)
	defer conn.Close()
	return conn.ConnectionState()
}
