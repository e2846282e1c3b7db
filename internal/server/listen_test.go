package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/member"
)

// starved is a listener for whose first connection the system has no memory.
type starved struct {
	net.Listener
	met atomic.Bool
}

func (s *starved) Accept() (net.Conn, error) {
	if s.met.CompareAndSwap(false, true) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.ENOMEM)}
	}
	return s.Listener.Accept()
}

// TestALackOfMemoryForAConnectionEndsNoMember is about listeners without TLS that are not split.
func TestALackOfMemoryForAConnectionEndsNoMember(t *testing.T) {
	t.Parallel()
	cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
	var err error
	if cfg.ListenClientHTTPURLs, err = config.ParseURLs("http://127.0.0.1:0"); err != nil { // so the others are for gRPC alone
		t.Fatal(err)
	}
	var clients, peers starved
	for _, l := range []*starved{&clients, &peers} {
		if l.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	up, ended := make(chan struct{}), make(chan error, 1)
	host := Host{Clients: []net.Listener{&clients}, Peers: []net.Listener{&peers}, Serving: func(*member.Member) { close(up) }}
	go func() {
		defer stop() // nobody waits for it then
		ended <- RunIn(ctx, cfg, slog.New(slog.DiscardHandler), host)
	}()
	select {
	case <-up:
	case err := <-ended:
		t.Fatalf("the member ended: %v", err)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{clients.Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Put(ctx, "k", "v")
	if err = errors.Join(err, c.Close()); err != nil {
		t.Errorf("a client: %v", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+peers.Addr().String()+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		err = res.Body.Close()
	}
	if err != nil {
		t.Errorf("another member: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the member ended with %v", err)
	}
	if !clients.met.Load() || !peers.met.Load() {
		t.Error("a listener lacked nothing: the test shows nothing")
	}
}
