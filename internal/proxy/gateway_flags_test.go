package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ashlar-kv/ashlar/internal/authority"
)

// TestEveryFlagOfTheGatewayDoesWhatItSays has a proof for each flag that help lists, or names the test that is one.
func TestEveryFlagOfTheGatewayDoesWhatItSays(t *testing.T) {
	t.Parallel()
	by := func(func(*testing.T)) func(*testing.T) { return func(*testing.T) {} }
	proofs := map[string]func(*testing.T){
		"listen-addr": by(TestAGatewayPassesConnectionsOnInTurn), "endpoints": by(TestAGatewayPassesConnectionsOnInTurn),
		"discovery-srv": by(TestAGatewayFindsEndpointsByDNS), "discovery-srv-name": by(TestAGatewayFindsEndpointsByDNS),
		"insecure-discovery": by(TestAGatewayFindsEndpointsByDNS), "trusted-ca-file": provesGatewayCA, "retry-delay": provesRetryDelay,
	}
	var help bytes.Buffer
	if code := Run(t.Context(), Process{Program: "etcd", Args: []string{"gateway", "start", "--help"}, Stdout: &help, Stderr: io.Discard}); code != 0 {
		t.Fatalf("help has status %d", code)
	}
	listed := map[string]bool{}
	for _, found := range regexp.MustCompile(`(?m)^ +(?:-h, )?--([a-z-]+)`).FindAllStringSubmatch(help.String(), -1) {
		flag := found[1]
		listed[flag] = true
		switch p := proofs[flag]; {
		case p != nil:
			t.Run(flag, p)
		case flag != "help":
			t.Errorf("--%s needs a proof that it does what it says", flag)
		}
	}
	for flag := range proofs {
		if !listed[flag] {
			t.Errorf("there is a proof of --%s, which is no flag", flag)
		}
	}
}

// provesGatewayCA finds an endpoint by DNS that has a certificate of the domain, from an authority that is trusted, or not.
func provesGatewayCA(t *testing.T) {
	dir := t.TempDir()
	ca, another := authority.New(t, dir, "ca"), authority.New(t, dir, "another")
	own := ca.Issue(t, "own", authority.Names{CN: "own", Hosts: []string{"example.test"}})
	at := serveTLS(t, own)
	dns := records{"etcd-client-ssl.example.test": {srvOf(t, at)}}
	g := start(t, Process{Resolver: dns, Args: gatewayArgs("--discovery-srv=example.test", "--trusted-ca-file="+ca.File)})
	if err := greet(t, g.address, ca); err != nil {
		t.Errorf("through the gateway: %v", err)
	}
	got := refused(t, Process{Resolver: dns, Args: gatewayArgs("--discovery-srv=example.test", "--trusted-ca-file="+another.File)})
	if got != "etcd: no endpoints found" {
		t.Errorf("got %q", got)
	}
}

// serveTLS shakes hands with who comes, and says a byte.
func serveTLS(t *testing.T, own authority.Issued) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(own.Cert, own.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _, _ = c.Write([]byte{1}); _ = c.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return l.Addr().String()
}

// greet shakes hands with an endpoint of the domain, and waits for its byte.
func greet(t *testing.T, address string, ca *authority.Authority) error {
	t.Helper()
	c := ca.Client(t, nil)
	c.ServerName = "example.test"
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// provesRetryDelay has an endpoint come back: it is found by the gateway that tries it again soon, and not by the one that waits for an
// hour.
func provesRetryDelay(t *testing.T) {
	a, b := serveEcho(t, "a", "127.0.0.1:0"), serveEcho(t, "b", "127.0.0.1:0")
	b.stop()
	both := "--endpoints=" + a.address + "," + b.address
	patient, quick := start(t, Process{Args: gatewayArgs(both, "--retry-delay=1h")}), start(t, Process{Args: gatewayArgs(both, "--retry-delay=1ms")})
	names := func(address string) string {
		t.Helper()
		seen := ""
		for range 4 { // in turn
			got, err := say(t, address, "x")
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(got, " ")
			seen += name
		}
		return seen
	}
	if got := names(patient.address) + names(quick.address); got != "aaaaaaaa" {
		t.Errorf("without the second endpoint: %s", got)
	}
	serveEcho(t, "b", b.address)
	eventually(t, "the endpoint is tried again", func() bool { return strings.Contains(names(quick.address), "b") })
	if got := names(patient.address); got != "aaaa" {
		t.Errorf("it is tried too early: %s", got)
	}
}
