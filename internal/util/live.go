package util

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/metadata"

	"github.com/ashlar-kv/ashlar/internal/backup"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/progress"
	"github.com/ashlar-kv/ashlar/internal/snapshot"
)

// connection is how to reach a running member. Names and meaning are those of the client's flags.
type connection struct {
	endpoint, caCert, cert, key string
	user, password              string
	skipVerify                  bool
	dialTimeout                 time.Duration
}

func (c *connection) define(f *pflag.FlagSet) {
	f.StringVar(&c.endpoint, "endpoints", "127.0.0.1:2379", "address of one running member")
	f.StringVar(&c.caCert, "cacert", "", "authorities that the server's certificate is checked with")
	f.StringVar(&c.cert, "cert", "", "certificate of this client")
	f.StringVar(&c.key, "key", "", "key of this client's certificate")
	f.BoolVar(&c.skipVerify, "insecure-skip-tls-verify", false, "do not check the server's certificate (for tests only)")
	f.StringVar(&c.user, "user", "", "USER:PASSWORD; it needs the role root")
	f.StringVar(&c.password, "password", "", "password; the whole of --user is then the user's name")
	f.DurationVar(&c.dialTimeout, "dial-timeout", 5*time.Second, "time limit for reaching the member")
}

// keepAlive is after how long without a word the member is asked for one, and how long it may take to answer.
const keepAlive = 10 * time.Second

func (c *connection) dial() (*clientv3.Client, error) {
	if strings.Contains(c.endpoint, ",") {
		return nil, badArguments("a backup is of one member, and --endpoints names several: %s", c.endpoint)
	}
	spec := clientv3.Config{Endpoints: []string{c.endpoint}, DialTimeout: c.dialTimeout, Logger: zap.NewNop(),
		// A transfer only reads: without these it would wait for ever for a member that lost its power.
		DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAlive,
		Username: c.user, Password: c.password}
	if c.password == "" {
		spec.Username, spec.Password, _ = strings.Cut(c.user, ":")
	}
	if c.caCert != "" || c.cert != "" || c.skipVerify || strings.HasPrefix(c.endpoint, "https://") {
		spec.TLS = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.skipVerify} //nolint:gosec // asked for by name
	}
	if c.caCert != "" {
		pem, err := os.ReadFile(c.caCert)
		if err != nil {
			return nil, err
		}
		if spec.TLS.RootCAs = x509.NewCertPool(); !spec.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", c.caCert)
		}
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		spec.TLS.Certificates = []tls.Certificate{pair}
	}
	return clientv3.New(spec)
}

// source asks the member for its cluster, and returns it as a source.
func (c *connection) source(ctx context.Context) (src backup.Source, err error) {
	client, err := c.dial()
	if err != nil {
		return src, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	ask, cancel := context.WithTimeout(ctx, c.dialTimeout)
	defer cancel()
	status, err := client.Status(ask, c.endpoint)
	if err != nil {
		return src, fmt.Errorf("ask %s for its cluster: %w", c.endpoint, err)
	}
	src.Cluster = cluster.ID(status.Header.GetClusterId()).String()
	src.Open = c.open
	return src, nil
}

// open asks the member for a snapshot, or for what is missing of one.
func (c *connection) open(ctx context.Context, have backup.Piece) (t backup.Transfer, err error) {
	client, err := c.dial()
	if err != nil {
		return t, err
	}
	id := snapshot.TransferNew
	if have.ID != "" {
		id = have.ID
	}
	ctx, end := context.WithCancel(metadata.AppendToOutgoingContext(ctx,
		snapshot.TransferKey, id, snapshot.OffsetKey, strconv.FormatInt(have.Bytes, 10)))
	body := &snapshotBody{client: client, end: end}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("ask %s for a snapshot: %w", c.endpoint, err), body.Close())
		}
	}()
	body.stream, err = pb.NewMaintenanceClient(client.ActiveConnection()).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return t, err
	}
	first, err := body.stream.Recv()
	if err != nil {
		return t, err
	}
	header, err := body.stream.Header()
	if err != nil {
		return t, err
	}
	body.left = first.GetBlob()
	t.Body = body
	if v := header.Get(snapshot.TransferKey); len(v) > 0 {
		t.ID = v[0]
	}
	if v := header.Get(snapshot.OffsetKey); len(v) > 0 {
		if t.From, err = strconv.ParseInt(v[0], 10, 64); err != nil {
			return t, err
		}
	}
	if rest := int64(first.GetRemainingBytes()); rest > 0 {
		t.Size = t.From + int64(len(body.left)) + rest + sha256.Size
	}
	return t, nil
}

// snapshotBody is what a member sends of a snapshot. It has a connection of its own, so that a broken one hinders none after it.
type snapshotBody struct {
	client *clientv3.Client
	end    context.CancelFunc
	stream pb.Maintenance_SnapshotClient
	left   []byte
}

// Read implements io.Reader.
func (b *snapshotBody) Read(p []byte) (int, error) {
	for len(b.left) == 0 {
		r, err := b.stream.Recv()
		if err != nil {
			return 0, err
		}
		b.left = r.GetBlob()
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *snapshotBody) Close() error {
	b.end()
	return b.client.Close()
}

// writeFrom writes a new file with what from gives.
func writeFrom(ctx context.Context, path string, from io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(io.MultiWriter(f, progress.Of(ctx)), from); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return ctx.Err()
}

func copyTo(ctx context.Context, path, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	ctx, line := progress.Begin(ctx, "copying", info.Size())
	defer line.End()
	return writeFrom(ctx, path, in)
}
