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
	"time"

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
	clients, peers := starved{Listener: listenAt(t)}, starved{Listener: listenAt(t)}
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

// TestAMemberThatWaitsForOthersEndsWithWhatTheyReachItBy although it cannot be ready without them.
func TestAMemberThatWaitsForOthersEndsWithWhatTheyReachItBy(t *testing.T) {
	t.Parallel()
	cfg := configAt(t, t.TempDir(), "127.0.0.1:0")
	clients, peers := listenAt(t), listenAt(t)
	own := "http://" + peers.Addr().String()
	var err error
	if cfg.AdvertisePeerURLs, err = config.ParseURLs(own); err != nil {
		t.Fatal(err)
	}
	cfg.InitialCluster = cfg.Name + "=" + own + ",absent=http://127.0.0.1:1"
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	host := Host{Clients: []net.Listener{clients}, Peers: []net.Listener{peers}, Started: func(*member.Member) { _ = peers.Close() }}
	if err := RunIn(ctx, cfg, slog.New(slog.DiscardHandler), host); !errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
		t.Errorf("the member ended with %v, and was told to: %v", err, ctx.Err())
	}
}

func listenAt(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
