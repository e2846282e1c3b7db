package proxy

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// shortOfMemory is a listener that cannot accept the first connection at once.
type shortOfMemory struct {
	net.Listener
	failed atomic.Bool
}

func (s *shortOfMemory) Accept() (net.Conn, error) {
	if !s.failed.Swap(true) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.ENOMEM)}
	}
	return s.Listener.Accept()
}

// TestMetricsOutliveALackOfMemory: the HTTP server takes that error of its listener for its end, and the proxy would end with it.
func TestMetricsOutliveALackOfMemory(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	up, err := connect(upstreamSettings{endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newServer(serverSettings{clock: clock.Real(), log: log}, up)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.serveMetrics(&shortOfMemory{Listener: l}, nil)
	r, err := http.Get("http://" + l.Addr().String() + "/proxy/metrics")
	select {
	case ended := <-p.failed:
		t.Fatalf("the proxy ends: %v", ended)
	default:
	}
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", r, err)
	}
	_ = r.Body.Close()
}
