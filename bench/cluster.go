package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

const (
	startPatience = 2 * time.Minute
	// preparePatience bounds what is done before a turn: loading, granting, filling.
	preparePatience = 20 * time.Minute
	// quota is high enough for all that a group of lines writes.
	quota = 16 << 30
	// messageBytesMax lets one answer hold all keys.
	messageBytesMax = 1<<31 - 1
)

// cluster is one server program in one shape.
type cluster struct {
	program Program
	shape   Shape
	certs   *certificates
	dir     string
	members []*member
	clients []*clientv3.Client
	leader  int // as it was when it started
	touched int // bytes that are to be touched before the turn is measured
}

// newCluster prepares members in a directory of their own; start starts them.
func newCluster(p Program, shape Shape, certs *certificates, dir string, from *ports, cores []int) (*cluster, error) {
	c := &cluster{program: p, shape: shape, certs: certs, dir: dir}
	scheme := c.url("")
	var peers, initial []string
	for i := range shape.Members {
		client, err := from.address()
		if err != nil {
			return nil, err
		}
		peer, err := from.address()
		if err != nil {
			return nil, err
		}
		peers = append(peers, scheme+peer)
		initial = append(initial, fmt.Sprintf("m%d=%s%s", i, scheme, peer))
		c.members = append(c.members, &member{path: p.path, client: client, cores: cores,
			logFile: filepath.Join(dir, fmt.Sprintf("m%d.log", i))})
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for servers: %w", err)
	}
	for i, m := range c.members {
		url := scheme + m.client
		m.args = []string{"--name", fmt.Sprintf("m%d", i), "--data-dir", filepath.Join(dir, fmt.Sprintf("m%d", i)),
			"--listen-client-urls", url, "--advertise-client-urls", url,
			"--listen-peer-urls", peers[i], "--initial-advertise-peer-urls", peers[i],
			"--initial-cluster", strings.Join(initial, ","), "--quota-backend-bytes", fmt.Sprint(quota)}
		if shape.TLS {
			m.args = append(m.args, "--cert-file", certs.cert, "--key-file", certs.key, "--client-cert-auth", "--trusted-ca-file", certs.ca,
				"--peer-cert-file", certs.cert, "--peer-key-file", certs.key, "--peer-client-cert-auth", "--peer-trusted-ca-file", certs.ca)
		}
	}
	return c, nil
}

// url is that of an address of a member.
func (c *cluster) url(address string) string {
	if c.shape.TLS {
		return "https://" + address
	}
	return "http://" + address
}

// start starts all members and waits until each answers.
func (c *cluster) start(ctx context.Context) error {
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return err
		}
	}
	for i := range c.members {
		if _, err := c.waitServing(ctx, i, "/", nil); err != nil {
			return err
		}
	}
	return c.findLeader(ctx)
}

// findLeader remembers which member leads, so that clients of every server reach it alike.
func (c *cluster) findLeader(ctx context.Context) error {
	client, err := c.connect(0)
	if err != nil {
		return err
	}
	defer client.Close()
	for i, m := range c.members {
		var s *clientv3.StatusResponse
		err := bounded(ctx, func(ctx context.Context) (err error) {
			s, err = client.Status(ctx, m.client)
			return err
		})
		if err != nil {
			return fmt.Errorf("asking %s who leads: %w", c.program.Name, err)
		}
		if s.Leader == s.Header.MemberId {
			c.leader = i
		}
	}
	return nil
}

// connect makes a client of one member.
func (c *cluster) connect(member int) (*clientv3.Client, error) {
	cfg := clientv3.Config{Endpoints: []string{c.members[member].client}, DialTimeout: startPatience, Logger: zap.NewNop(),
		MaxCallRecvMsgSize: messageBytesMax, MaxCallSendMsgSize: 16 << 20,
		// For calls that go past the client, too.
		DialOptions: []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax))}}
	if c.shape.TLS {
		cfg.Endpoints[0] = c.url(cfg.Endpoints[0])
		cfg.TLS = c.tls()
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", c.program.Name, err)
	}
	return client, nil
}

// tls is the client's configuration; nil in the clear.
func (c *cluster) tls() *tls.Config {
	if !c.shape.TLS {
		return nil
	}
	return c.certs.client.Clone()
}

// connectionsMax is how many connections many clients share.
const connectionsMax = 100

// pool returns connections for that many clients, the first one to the leader, the others to all members in turn. They stay
// connected for the scenarios that follow.
func (c *cluster) pool(clients int) ([]*clientv3.Client, error) {
	n := min(clients, connectionsMax)
	for len(c.clients) < n {
		client, err := c.connect((c.leader + len(c.clients)) % len(c.members))
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, client)
	}
	return slices.Clone(c.clients[:n]), nil
}

// waitServing waits until a member answers a read of the key as wanted, and returns how long that took. Nil accepts any value,
// and then the read is linearizable; otherwise it asks for what the member itself has.
func (c *cluster) waitServing(ctx context.Context, member int, key string, want []byte) (time.Duration, error) {
	begin := time.Now()
	m := c.members[member]
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := c.ask(ctx, member, key, want)
		if err == nil {
			return time.Since(begin), nil
		}
		select {
		case <-m.ended:
			return 0, fmt.Errorf("%s ended before it served; its log ends with: %s", c.program.Name, m.logTail())
		case <-ctx.Done():
			return 0, fmt.Errorf("%s did not serve within %v: %w; its log ends with: %s", c.program.Name, startPatience, err, m.logTail())
		case <-again.C:
		}
	}
}

// errNotYet is returned by a member that answers, but not yet with what is wanted.
var errNotYet = errors.New("the member does not have the value yet")

// close ends clients and members and removes what they wrote.
func (c *cluster) close() error {
	c.disconnect()
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.stop())
	}
	return errors.Join(append(errs, os.RemoveAll(c.dir))...)
}

// disconnect closes the pool's connections: after a restart they would wait before they try again.
func (c *cluster) disconnect() {
	for _, client := range c.clients {
		client.Close() // its context is over, which is no fault
	}
	c.clients = nil
}
