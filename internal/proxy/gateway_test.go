package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-kv/ashlar/internal/clock"
)

func gatewayArgs(more ...string) []string {
	return append([]string{"gateway", "start", "--listen-addr=127.0.0.1:0"}, more...)
}

func TestAGatewayPassesConnectionsOnInTurn(t *testing.T) {
	t.Parallel()
	a, b := serveEcho(t, "a", "127.0.0.1:0"), serveEcho(t, "b", "127.0.0.1:0")
	g := start(t, Process{Args: gatewayArgs("--endpoints=" + a.address + ",http://" + b.address)})
	seen := map[string]int{}
	for range 4 {
		got, err := say(t, g.address, "hello")
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(got, " ")
		if got != name+" hello\n"+name+" saw the end\n" {
			t.Fatalf("got %q", got)
		}
		seen[name]++
	}
	if seen["a"] != 2 || seen["b"] != 2 {
		t.Errorf("got %v", seen)
	}
}

// gatewayOf runs a gateway on a manual clock.
func gatewayOf(t *testing.T, targets ...Target) (g *Gateway, address string, c *clock.Manual) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = clock.NewManual(time.Unix(0, 0))
	g = &Gateway{Targets: targets, RetryDelay: time.Minute, Clock: c, Logger: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c.WaitPending(1) // it looks after its endpoints
	return g, l.Addr().String(), c
}

func (g *Gateway) isDown(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down[address]
}

func TestADeadEndpointIsPassedOverAndTriedAgain(t *testing.T) {
	t.Parallel()
	a, b := serveEcho(t, "a", "127.0.0.1:0"), serveEcho(t, "b", "127.0.0.1:0")
	g, address, c := gatewayOf(t, Target{Address: a.address, Priority: 1}, Target{Address: b.address, Priority: 2})
	if got, err := say(t, address, "x"); err != nil || !strings.HasPrefix(got, "a x\n") {
		t.Fatalf("the endpoint of the first priority: %q, %v", got, err)
	}
	a.stop()
	if got, err := say(t, address, "x"); err != nil || !strings.HasPrefix(got, "b x\n") {
		t.Fatalf("while the first is dead: %q, %v", got, err)
	}
	if !g.isDown(a.address) {
		t.Fatal("the dead endpoint is not known to be dead")
	}
	a = serveEcho(t, "a", a.address)
	c.Advance(time.Minute)
	eventually(t, "the endpoint is found again", func() bool { return !g.isDown(a.address) })
	if got, err := say(t, address, "x"); err != nil || !strings.HasPrefix(got, "a x\n") {
		t.Fatalf("after it came back: %q, %v", got, err)
	}
}

func TestAGatewayWithoutEndpointsClosesConnectionsAndFindsThemAtOnce(t *testing.T) {
	t.Parallel()
	a := serveEcho(t, "a", "127.0.0.1:0")
	_, address, _ := gatewayOf(t, Target{Address: a.address})
	a.stop()
	if got, err := say(t, address, "x"); err == nil {
		t.Fatalf("nobody is there, but %q", got)
	}
	serveEcho(t, "a", a.address) // no time passes
	if got, err := say(t, address, "x"); err != nil || !strings.HasPrefix(got, "a x\n") {
		t.Fatalf("after it came back: %q, %v", got, err)
	}
}

func TestWeightsDivideConnections(t *testing.T) {
	t.Parallel()
	g := &Gateway{Targets: []Target{{"a", 1, 3}, {"b", 1, 1}, {"spare", 2, 9}}}
	first := map[string]int{}
	for range 4000 {
		order := g.pick()
		if len(order) != 3 || order[2].Address != "spare" {
			t.Fatalf("got %v", order)
		}
		first[order[0].Address]++
	}
	if first["a"] < 2500 || first["b"] < 500 {
		t.Errorf("got %v", first)
	}
}

// records answer SRV look-ups; real ones are asked in the tests of package discovery.
type records map[string][]*net.SRV

func (r records) LookupSRV(_ context.Context, service, _, name string) (string, []*net.SRV, error) {
	if found, ok := r[service+"."+name]; ok {
		return "", found, nil
	}
	return "", nil, errors.New("no such host")
}

func (records) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return nil, errors.New("no such host")
}

func srvOf(t *testing.T, address string) *net.SRV {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return &net.SRV{Target: host + ".", Port: uint16(n), Priority: 1, Weight: 1}
}

func TestAGatewayFindsEndpointsByDNS(t *testing.T) {
	t.Parallel()
	a := serveEcho(t, "a", "127.0.0.1:0")
	dns := records{"etcd-client-blue.example.test": {srvOf(t, a.address)}}
	g := start(t, Process{Resolver: dns, Args: gatewayArgs("--discovery-srv=example.test", "--discovery-srv-name=blue", "--insecure-discovery")})
	if got, err := say(t, g.address, "x"); err != nil || !strings.HasPrefix(got, "a x\n") {
		t.Fatalf("got %q, %v", got, err)
	}
	secure := records{"etcd-client-ssl.example.test": {srvOf(t, a.address)}, "etcd-client.example.test": {srvOf(t, a.address)}}
	got := refused(t, Process{Resolver: secure, Args: gatewayArgs("--discovery-srv=example.test")})
	if got != "etcd: no endpoints found" { // neither has a certificate of the domain
		t.Errorf("got %q", got)
	}
}

func TestAGatewayRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an endpoint without a port":   {[]string{"--endpoints=foo"}, `etcd: error parsing endpoint "foo"`},
		"no endpoints":                 {[]string{"--endpoints="}, "etcd: no endpoints found"},
		"a domain without records":     {[]string{"--discovery-srv=nowhere.test"}, "etcd: dns lookup errors: no such host and no such host"},
		"its own address":              {[]string{"--listen-addr=127.0.0.1:21110", "--endpoints=localhost:21110"}, "should not resolve to the gateway listen addr (127.0.0.1:21110)"},
		"its own address, unspecified": {[]string{"--listen-addr=:21110", "--endpoints=127.0.0.1:21110"}, "should not resolve to the gateway listen addr (:21110)"},
		"an address that is no such":   {[]string{"--listen-addr=x"}, "etcd: failed to validate listen address: x"},
		"an unknown flag":              {[]string{"--bogus"}, "etcd: unknown flag: --bogus"},
		"a delay below zero":           {[]string{"--retry-delay=-1s"}, "etcd: --retry-delay must not be negative (set to -1s)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := refused(t, Process{Resolver: records{}, Args: gatewayArgs(c.args...)}); !strings.HasSuffix(got, c.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}
