package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

// retryDelayZero is what --retry-delay=0 stands for, as in etcd.
const retryDelayZero = 5 * time.Minute

// gatewaySettings are the flags of `gateway start`.
type gatewaySettings struct {
	listen     string
	endpoints  []string
	found      discovered
	retryDelay time.Duration
}

func (p Process) gatewayCommand() *cobra.Command {
	g := &gatewaySettings{found: discovered{resolver: p.resolver()}}
	start := &cobra.Command{
		Use: "start", Short: "start the gateway", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runGateway(cmd.Context(), g) },
	}
	f := start.Flags()
	f.StringVar(&g.listen, "listen-addr", "127.0.0.1:23790", "listen address")
	f.StringVar(&g.found.domain, "discovery-srv", "", "DNS domain whose SRV records name the endpoints")
	f.StringVar(&g.found.name, "discovery-srv-name", "", "service name to ask SRV records for")
	f.BoolVar(&g.found.insecure, "insecure-discovery", false, "accept insecure SRV records")
	f.StringVar(&g.found.ca, "trusted-ca-file", "", "authorities that the endpoints found by --discovery-srv are verified with")
	f.StringSliceVar(&g.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "endpoints of the cluster")
	f.DurationVar(&g.retryDelay, "retry-delay", time.Minute, "time after which an endpoint that failed is tried again")
	group := &cobra.Command{Use: "gateway", Short: "gateway related command"}
	group.AddCommand(start)
	return group
}

func (p Process) runGateway(ctx context.Context, g *gatewaySettings) error {
	log, err := p.openLog(false)
	if err != nil {
		return err
	}
	if g.retryDelay < 0 {
		return fmt.Errorf("--retry-delay must not be negative (set to %s)", g.retryDelay)
	}
	if g.retryDelay == 0 {
		g.retryDelay = retryDelayZero
	}
	targets, err := g.targets(ctx, log)
	if err != nil {
		return err
	}
	if err := refuseOwn(ctx, g.listen, targets); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", g.listen)
	if err != nil {
		return err
	}
	log.Info("ready to proxy client requests", "address", l.Addr().String(), "endpoints", addressesOf(targets))
	p.ready(l)
	gateway := &Gateway{Targets: targets, RetryDelay: g.retryDelay, Clock: clock.Real(), Logger: log}
	return gateway.Serve(ctx, l)
}

// targets returns the endpoints that DNS names, or else those of the flag.
func (g *gatewaySettings) targets(ctx context.Context, log *slog.Logger) ([]Target, error) {
	if g.found.domain != "" {
		found, err := g.found.endpoints(ctx, log)
		if err != nil {
			return nil, err
		}
		targets := make([]Target, len(found))
		for i, e := range found {
			targets[i] = Target{net.JoinHostPort(e.Host, fmt.Sprint(e.Port)), e.Priority, e.Weight}
		}
		return targets, nil
	}
	var targets []Target
	for _, e := range g.endpoints {
		if u, err := url.Parse(e); err == nil && strings.Contains(e, "://") {
			e = u.Host
		}
		if _, _, err := net.SplitHostPort(e); err != nil {
			return nil, fmt.Errorf("error parsing endpoint %q", e)
		}
		targets = append(targets, Target{Address: e})
	}
	if len(targets) == 0 {
		return nil, errNoEndpoints
	}
	return targets, nil
}

func addressesOf(targets []Target) []string {
	out := make([]string, len(targets))
	for i, t := range targets {
		out[i] = t.Address
	}
	return out
}
