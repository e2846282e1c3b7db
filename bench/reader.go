package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// readerArgument, before an endpoint, makes this program read a snapshot from there and print its length. Who takes a snapshot is a process of its own,
// as etcdctl is: here the collector would work for it, and stop the clients whose latency is measured.
const readerArgument = "read-a-snapshot"

// asReader reads a snapshot if the arguments ask for it.
func asReader(ctx context.Context, args []string, stdout io.Writer) (asked bool, err error) {
	if len(args) != 2 || args[0] != readerArgument {
		return false, nil
	}
	n, err := snapshotOf(ctx, args[1])
	if err == nil {
		_, err = fmt.Fprintln(stdout, n)
	}
	return true, err
}

// snapshotOf reads a snapshot and returns its length.
func snapshotOf(ctx context.Context, endpoint string) (n int64, err error) {
	client, err := clientv3.New(clientv3.Config{Context: ctx, Endpoints: []string{endpoint}})
	if err != nil {
		return 0, fmt.Errorf("connecting to %s: %w", endpoint, err)
	}
	in, err := client.Snapshot(ctx)
	if err == nil {
		n, err = io.Copy(io.Discard, in)
		err = errors.Join(err, in.Close())
	}
	return n, errors.Join(err, client.Close())
}

// otherReads has another process read a snapshot, and returns its length.
func otherReads(ctx context.Context, endpoint string) (int64, error) {
	own, err := os.Executable()
	if err != nil {
		return 0, err
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, own, readerArgument, endpoint)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}
