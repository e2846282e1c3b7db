package e2e

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/test/process"
)

// connect is a stock client of the member. It is closed with the test.
func (m *member) connect(tb testing.TB) *clientv3.Client {
	tb.Helper()
	c, err := newClient(m)
	if err != nil {
		tb.Fatalf("connecting to %s: %v", m.client, err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

func newClient(m *member) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{m.client}, DialTimeout: process.Patience, TLS: m.tls})
}

// wholeTest bounds the requests of a whole test that makes thousands, where each may wait for a slow disk.
const wholeTest = 15 * time.Minute

// within bounds a test's requests so that a server that hangs fails the test instead of the run.
func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// noError ends the test when err is not nil.
func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
