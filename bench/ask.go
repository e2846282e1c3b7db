package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// askPatience bounds one question to a member that may not be ready.
const askPatience = 5 * time.Second

// ask reads a key from one member over a connection of its own: one that is kept would wait longer after each failure.
func (c *cluster) ask(ctx context.Context, member int, key string, want []byte) error {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	address := c.members[member].client
	// Whether anybody listens is found out without gRPC, which would wait a second after a refusal.
	probe, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	probe.Close()
	creds := insecure.NewCredentials()
	if c.shape.TLS {
		creds = credentials.NewTLS(c.tls())
	}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	defer conn.Close()
	r, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(key), Serializable: want != nil})
	if err != nil {
		return fmt.Errorf("reading from %s: %w", address, err)
	}
	if want != nil && (len(r.Kvs) != 1 || !bytes.Equal(r.Kvs[0].Value, want)) {
		return errNotYet
	}
	return nil
}
