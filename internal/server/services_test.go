package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/peer"
)

// deaf is a listener that notices that it was closed only when its server closes it.
type deaf struct {
	net.Listener
	accepting, told chan struct{}
}

func (d deaf) Accept() (net.Conn, error) {
	close(d.accepting)
	<-d.told
	return nil, net.ErrClosed
}

func (d deaf) Close() error {
	close(d.told)
	return d.Listener.Close()
}

// TestAServerWhoseListenerIsClosedEndsWithoutAnError: a member that ends before it is ready closes its listeners before its servers, and
// these may not have seen it.
func TestAServerWhoseListenerIsClosedEndsWithoutAnError(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*http.Server) error{
		"at once":            closed,
		"after its requests": func(s *http.Server) error { return shut(context.Background(), s) },
		"of other members": func(s *http.Server) error {
			cfg := config.Default("ashlar")
			p := newPeers(&cfg, clock.Real(), slog.New(slog.DiscardHandler), func() {})
			p.early, p.server = peer.NewEarly(false), s
			return p.stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			d := deaf{l, make(chan struct{}), make(chan struct{})}
			s := new(http.Server)
			served := make(chan error, 1)
			go func() { served <- s.Serve(d) }()
			<-d.accepting
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := end(s); err != nil {
				t.Errorf("got %v", err)
			}
			<-served
		})
	}
}
