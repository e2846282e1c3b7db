package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ashlar-kv/ashlar/internal/accept"
	"github.com/ashlar-kv/ashlar/internal/clock"
)

const (
	// gatewayDialTimeout bounds a connection to one endpoint.
	gatewayDialTimeout = 5 * time.Second
	// gatewayConnsMax bounds the connections that a gateway passes on at a time; further ones wait to be accepted.
	gatewayConnsMax = 10000
	// acceptRest is how long accepting rests after an error that may pass, such as too many open files.
	acceptRest = 100 * time.Millisecond
)

// Target is an endpoint behind a gateway.
type Target struct {
	// Address is HOST:PORT.
	Address string
	// Priority and Weight are those of SRV records: lower priorities are used first, equal ones in proportion to the weight.
	Priority, Weight uint16
}

// Gateway passes TCP connections on to the endpoints that answer. Its fields are set before Serve.
type Gateway struct {
	// Targets are the endpoints, at least one.
	Targets []Target
	// RetryDelay is the time after which an endpoint that did not answer is tried again.
	RetryDelay time.Duration
	Clock      clock.Clock
	Logger     *slog.Logger

	mu   sync.Mutex
	down map[string]bool // by address: it did not answer when it was last tried
	next int             // endpoints without weights take turns
}

// Serve accepts connections until ctx ends, and then ends those under way. It closes l.
func (g *Gateway) Serve(ctx context.Context, l net.Listener) error {
	g.down = map[string]bool{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	all.Go(func() { g.monitor(ctx) })
	places := make(chan struct{}, gatewayConnsMax)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		client, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = client.Close()
			}
			return nil
		case err != nil && g.rest(ctx, err):
			<-places
			continue
		case err != nil:
			return fmt.Errorf("accept connections: %w", err)
		}
		all.Go(func() {
			defer func() { <-places }()
			g.pass(ctx, client)
		})
	}
}

// rest waits a little after an error that may pass, and tells whether it is one.
func (g *Gateway) rest(ctx context.Context, err error) bool {
	if !accept.Passes(err) {
		return false
	}
	g.Logger.Warn("a connection cannot be accepted", "error", err)
	t := g.Clock.NewTimer(acceptRest)
	defer t.Stop()
	select {
	case <-t.C():
	case <-ctx.Done():
	}
	return true
}

// pass connects a client to an endpoint until both have ended, or one of them fails.
func (g *Gateway) pass(ctx context.Context, client net.Conn) {
	defer client.Close()
	upstream := g.dial(ctx)
	if upstream == nil {
		return
	}
	defer upstream.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = upstream.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { carry(upstream, client) })
	carry(client, upstream)
	both.Wait()
}

// carry copies until from ends, and ends that half of to; after a failure, both connections.
func carry(to, from net.Conn) {
	if _, err := io.Copy(to, from); err == nil {
		if half, ok := to.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			return
		}
	}
	_ = to.Close()
	_ = from.Close()
}

// dial connects to the first endpoint that answers, in the order of pick. It returns nil when none does.
func (g *Gateway) dial(ctx context.Context) net.Conn {
	d := net.Dialer{Timeout: gatewayDialTimeout}
	for _, t := range g.pick() {
		c, err := d.DialContext(ctx, "tcp", t.Address)
		if err == nil {
			g.mark(t.Address, false)
			return c
		}
		if ctx.Err() != nil {
			return nil
		}
		if g.mark(t.Address, true) {
			g.Logger.Warn("deactivated endpoint", "address", t.Address, "interval", g.RetryDelay.String(), "error", err)
		}
	}
	g.Logger.Warn("no endpoint answers; a connection is closed")
	return nil
}

// pick returns the endpoints that are up in the order in which to try them; all of them when none is up, so that a cluster that
// has come back is found at once.
func (g *Gateway) pick() []Target {
	g.mu.Lock()
	defer g.mu.Unlock()
	up := slices.DeleteFunc(slices.Clone(g.Targets), func(t Target) bool { return g.down[t.Address] })
	if len(up) == 0 {
		up = slices.Clone(g.Targets)
	}
	g.next++
	slices.SortStableFunc(up, func(a, b Target) int { return int(a.Priority) - int(b.Priority) })
	for from := 0; from < len(up); {
		to := from
		for to < len(up) && up[to].Priority == up[from].Priority {
			to++
		}
		g.first(up[from:to])
		from = to
	}
	return up
}

// first puts one endpoint of equal priority in front: by its weight, or in turn where there are no weights.
func (g *Gateway) first(equal []Target) {
	sum := 0
	for _, t := range equal {
		sum += int(t.Weight)
	}
	at := g.next % len(equal)
	if sum > 0 {
		at = 0
		for left := rand.IntN(sum); left >= int(equal[at].Weight); at++ {
			left -= int(equal[at].Weight)
		}
	}
	turned := slices.Concat(equal[at:], equal[:at])
	copy(equal, turned)
}

// mark says whether an endpoint is down, and tells whether that is new.
func (g *Gateway) mark(address string, down bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := g.down[address] != down
	if down {
		g.down[address] = true
	} else {
		delete(g.down, address)
	}
	return changed
}

// monitor tries endpoints that are down again.
func (g *Gateway) monitor(ctx context.Context) {
	tick := g.Clock.NewTicker(g.RetryDelay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			g.revive(ctx)
		}
	}
}

func (g *Gateway) revive(ctx context.Context) {
	d := net.Dialer{Timeout: gatewayDialTimeout}
	var tries sync.WaitGroup
	for _, t := range g.Targets {
		g.mu.Lock()
		down := g.down[t.Address]
		g.mu.Unlock()
		if !down {
			continue
		}
		tries.Go(func() {
			c, err := d.DialContext(ctx, "tcp", t.Address)
			if err != nil {
				g.Logger.Warn("failed to activate endpoint; it stays inactive", "address", t.Address, "error", err)
				return
			}
			_ = c.Close()
			g.mark(t.Address, false)
			g.Logger.Info("activated", "address", t.Address)
		})
	}
	tries.Wait()
}

// errOwnAddress is returned for an endpoint that is the gateway itself.
var errOwnAddress = errors.New("should not resolve to the gateway listen addr")

// refuseOwn refuses targets that lead back to the gateway: a connection would be passed on for ever.
func refuseOwn(ctx context.Context, listen string, targets []Target) error {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("failed to validate listen address: %s", listen)
	}
	own, err := listening(ctx, host)
	if err != nil {
		return fmt.Errorf("failed to resolve listen host: %s", host)
	}
	for _, t := range targets {
		h, p, err := net.SplitHostPort(t.Address)
		if err != nil {
			return fmt.Errorf("error parsing endpoint %q", t.Address)
		}
		at, err := net.DefaultResolver.LookupHost(ctx, h)
		if err != nil {
			return fmt.Errorf("failed to resolve endpoint host: %s", h)
		}
		for _, a := range at {
			if p == port && slices.Contains(own, a) {
				return fmt.Errorf("SRV or endpoint (%s->%s) %w (%s)", t.Address, net.JoinHostPort(a, p), errOwnAddress, listen)
			}
		}
	}
	return nil
}

// listening returns the addresses that a listener on a host has: all of this machine for an unspecified one.
func listening(ctx context.Context, host string) ([]string, error) {
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	all, err := net.InterfaceAddrs()
	out := []string{"0.0.0.0", "::"}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			out = append(out, n.IP.String())
		}
	}
	return out, err
}
