package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ashlar-kv/ashlar/internal/proxy"
	"github.com/ashlar-kv/ashlar/internal/wire"
)

// proof shows that a flag of `grpc-proxy start` does what it says.
type proof func(t *testing.T, flag string)

// by names the test that shows it.
func by(func(*testing.T)) proof { return func(*testing.T, string) {} }

// lastly stands for what is looked at in the end.
func lastly(*testing.T, string) {}

// TestEveryFlagOfTheProxyDoesWhatItSays has a proof for each flag that help lists.
func TestEveryFlagOfTheProxyDoesWhatItSays(t *testing.T) {
	t.Parallel()
	pings := startUpstreamPings(t)
	proofs := map[string]proof{
		"listen-addr": by(TestRequestsArePassedOn), "endpoints": by(TestRequestsArePassedOn), "metrics-addr": by(TestTLSOnBothSides),
		"advertise-client-url": by(TestProxiesAreListedAsMembers), "resolver-prefix": by(TestProxiesAreListedAsMembers),
		"resolver-ttl": by(TestProxiesAreListedAsMembers), "namespace": by(TestANamespaceIsAllThatClientsSee),
		"enable-pprof": by(TestHealthSaysWhatIsWrong), "experimental-leasing-prefix": by(TestOwnedKeysAreReadWithoutAMember),
		"endpoints-auto-sync-interval": by(TestEndpointsAreThoseOfTheClusterAfterAWhile),
		"cert":                         by(TestTLSOnBothSides), "key": by(TestTLSOnBothSides), "cacert": by(TestTLSOnBothSides),
		"cert-file": by(TestTLSOnBothSides), "key-file": by(TestTLSOnBothSides), "trusted-ca-file": by(TestTLSOnBothSides),
		"auto-tls": by(TestACertificateIsMade),

		"data-dir": seesMadeCertificate, "self-signed-cert-validity": seesMadeCertificate,
		"max-concurrent-streams": seesStreams, "grpc-keepalive-min-time": seesPings, "grpc-keepalive-interval": seesProxyPing,
		"grpc-keepalive-timeout": seesProxyGiveUp, "dial-keepalive-time": lastly,
		"dial-keepalive-timeout": lastly, "permit-without-stream": lastly,
		"experimental-serializable-ordering": seesOrdering,
		"experimental-enable-grpc-logging":   seesRequestsLogged, "debug": seesDebug,
		"discovery-srv": seesRecords, "discovery-srv-name": seesRecords, "insecure-discovery": seesRecords,
		"max-send-bytes": seesBytesMax, "max-recv-bytes": seesBytesMax, "insecure-skip-tls-verify": seesNoVerification,
		"client-crl-file": seesRevoked, "listen-cipher-suites": seesVersions, "tls-min-version": seesVersions, "tls-max-version": seesVersions,
	}
	var help bytes.Buffer
	if code := proxy.Run(t.Context(), proxy.Process{Program: "etcd", Args: []string{"grpc-proxy", "start", "--help"}, Stdout: &help, Stderr: io.Discard}); code != 0 {
		t.Fatalf("help has status %d", code)
	}
	listed := map[string]bool{}
	t.Run("each", func(t *testing.T) {
		for _, found := range regexp.MustCompile(`(?m)^ +(?:-h, )?--([a-z-]+)`).FindAllStringSubmatch(help.String(), -1) {
			flag := found[1]
			listed[flag] = true
			switch p := proofs[flag]; {
			case p != nil:
				t.Run(flag, func(t *testing.T) { t.Parallel(); p(t, flag) })
			case flag != "help":
				t.Errorf("--%s needs a proof that it does what it says", flag)
			}
		}
	})
	pings.check(t)
	for flag := range proofs {
		if !listed[flag] {
			t.Errorf("there is a proof of --%s, which is no flag", flag)
		}
	}
}

// mute is an address at which somebody listens, and never answers.
func mute(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// dial connects with a proxy in front of nobody.
func dial(t *testing.T, flags ...string) *wire.Conn {
	t.Helper()
	return wire.Dial(t, "tcp", runProxy(t, mute(t).Addr().String(), flags...).addresses[0])
}

func seesStreams(t *testing.T, flag string) {
	if n := dial(t, "--"+flag+"=77").MaxStreams(); n != 77 {
		t.Errorf("it takes %d", n)
	}
}

// seesPings pings more often than allowed, and than forbidden.
func seesPings(t *testing.T, flag string) {
	for value, allowed := range map[string]bool{"1ns": true, "1h": false} {
		c, n := dial(t, "--"+flag+"="+value), 0
		for n < 20 && c.Answers() {
			n++
		}
		if (n == 20) != allowed {
			t.Errorf("--%s=%s: %d pings are answered", flag, value, n)
		}
	}
}

// seesProxyPing is silent towards two proxies: the one that is to ping does so, and not the other, which heard nothing for longer.
func seesProxyPing(t *testing.T, flag string) {
	patient, other := dial(t, "--"+flag+"=1h"), dial(t, "--"+flag+"=1s")
	if other.WaitPing(t); !patient.Answers() {
		t.Error("one that is to ping after an hour has done so, too")
	}
}

// seesProxyGiveUp does not answer the pings of two proxies: the one that is to give up does so, and not the other.
func seesProxyGiveUp(t *testing.T, flag string) {
	patient := dial(t, "--grpc-keepalive-interval=1s", "--"+flag+"=1h")
	patient.WaitPing(t)
	dial(t, "--grpc-keepalive-interval=1s", "--"+flag+"=1s").WaitEnd()
	if !patient.Answers() {
		t.Error("one that is to wait for an hour has given up, too")
	}
}

// upstreamPings are of proxies in front of members that answer nothing, not even pings. gRPC waits ten seconds at the least before it
// pings, so they are looked at last.
type upstreamPings struct{ late, idle, patient, hasty *wire.Conn }

// startUpstreamPings starts those that must not ping, or not give up, first.
func startUpstreamPings(t *testing.T) *upstreamPings {
	t.Helper()
	before := func(flags ...string) *wire.Conn {
		l := mute(t)
		runProxy(t, l.Addr().String(), flags...)
		return wire.Accept(t, l)
	}
	return &upstreamPings{
		late:    before("--permit-without-stream", "--dial-keepalive-time=1h"),
		idle:    before("--dial-keepalive-time=10s"), // without a request there is no ping
		patient: before("--permit-without-stream", "--dial-keepalive-time=10s", "--dial-keepalive-timeout=1h"),
		hasty:   before("--permit-without-stream", "--dial-keepalive-time=10s", "--dial-keepalive-timeout=1s"),
	}
}

// check is the proof of three flags.
func (p *upstreamPings) check(t *testing.T) {
	t.Helper()
	p.patient.WaitPing(t)
	p.hasty.WaitEnd()
	for what, c := range map[string]*wire.Conn{"--dial-keepalive-time=1h": p.late, "--dial-keepalive-timeout=1h": p.patient,
		"a proxy without --permit-without-stream": p.idle} {
		if !c.Answers() {
			t.Errorf("%s pings, or gives up", what)
		}
	}
}

// wavering answers each serializable read with an older revision than the one before.
type wavering struct {
	etcdserverpb.UnimplementedKVServer
	revision atomic.Int64
}

// Range implements the service.
func (w *wavering) Range(_ context.Context, q *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	revision := int64(100)
	if q.Serializable {
		revision = w.revision.Add(-1)
	}
	return &etcdserverpb.RangeResponse{Header: &etcdserverpb.ResponseHeader{Revision: revision}}, nil
}

func seesOrdering(t *testing.T, flag string) {
	for value, ordered := range map[string]bool{"true": true, "false": false} {
		l := mute(t)
		w := &wavering{}
		w.revision.Store(50)
		s := grpc.NewServer()
		etcdserverpb.RegisterKVServer(s, w)
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		c := runProxy(t, l.Addr().String(), "--"+flag+"="+value).client(t)
		last := int64(0)
		back := false
		for i := range 5 {
			r := must[*clientv3.GetResponse](t)(c.Get(soon(t), strconv.Itoa(i), clientv3.WithSerializable()))
			back = back || r.Header.Revision < last
			last = r.Header.Revision
		}
		if back == ordered {
			t.Errorf("--%s=%s: reads go back: %v", flag, value, back)
		}
	}
}

func seesRequestsLogged(t *testing.T, flag string) {
	up := runMember(t, nil)
	for value, logged := range map[string]bool{"true": true, "false": false} {
		p := runProxy(t, up.address, "--"+flag+"="+value)
		must[*clientv3.PutResponse](t)(p.client(t).Put(soon(t), "k", "v"))
		if got := strings.Contains(p.log.String(), `"method":"/etcdserverpb.KV/Put"`); got != logged {
			t.Errorf("--%s=%s: %s", flag, value, p.log)
		}
	}
}

// seesRecords finds a member by DNS; one without TLS only when that is wanted.
func seesRecords(t *testing.T, _ string) {
	up := runMember(t, nil)
	host, port, err := net.SplitHostPort(up.address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	dns := records{"etcd-client-blue.example.test": {{Target: host + ".", Port: uint16(n)}}}
	args := []string{"grpc-proxy", "start", "--listen-addr=127.0.0.1:0", "--endpoints=127.0.0.1:1", "--discovery-srv=example.test", "--discovery-srv-name=blue"}
	p := runProcess(t, proxy.Process{Resolver: dns, Args: append(args, "--insecure-discovery")})
	must[*clientv3.PutResponse](t)(p.client(t).Put(soon(t), "k", "v"))
	var said bytes.Buffer
	if code := proxy.Run(soon(t), proxy.Process{Program: "etcd", Resolver: dns, Args: args, Stdout: io.Discard, Stderr: &said}); code != 1 ||
		!strings.Contains(said.String(), "etcd: no endpoints found") {
		t.Errorf("without --insecure-discovery: %d, %s", code, &said)
	}
}

// records are DNS by hand.
type records map[string][]*net.SRV

// LookupSRV implements discovery.Resolver.
func (r records) LookupSRV(_ context.Context, service, _, name string) (string, []*net.SRV, error) {
	if found, ok := r[service+"."+name]; ok {
		return "", found, nil
	}
	return "", nil, errors.New("no such host")
}

// LookupIPAddr implements discovery.Resolver.
func (records) LookupIPAddr(context.Context, string) ([]net.IPAddr, error) {
	return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
}

// seesBytesMax writes and reads 100 kB through proxies that pass so much on, or not.
func seesBytesMax(t *testing.T, flag string) {
	up := runMember(t, nil)
	value := strings.Repeat("x", 100_000)
	must[*clientv3.PutResponse](t)(client(t, up.address).Put(soon(t), "k", value))
	for most, refused := range map[string]bool{"1000": true, "200000": false} {
		c := runProxy(t, up.address, "--"+flag+"="+most).client(t)
		var err error
		if flag == "max-send-bytes" {
			_, err = c.Put(soon(t), "k", value)
		} else {
			_, err = c.Get(soon(t), "k")
		}
		if status.Code(err) == codes.ResourceExhausted != refused || err != nil && !refused {
			t.Errorf("--%s=%s: %v", flag, most, err)
		}
	}
}

// seesDebug ends the member behind a watch, of which the log tells at debug level.
func seesDebug(t *testing.T, flag string) {
	for value, tells := range map[string]bool{"true": true, "false": false} {
		up := runMember(t, nil)
		p := runProxy(t, up.address, "--"+flag+"="+value)
		for range 2 {
			<-p.client(t).Watch(soon(t), "k", clientv3.WithCreatedNotify())
		}
		eventually(t, "the watch is shared", func() bool { return watchers(t, up) == 1 })
		up.end(t)
		if tells {
			eventually(t, "the log tells of it", func() bool { return strings.Contains(p.log.String(), `"level":"debug"`) })
			continue
		}
		code := http.StatusOK
		eventually(t, "the proxy knows it", func() bool {
			code, _ = get(t, http.DefaultClient, "http://"+p.addresses[0]+"/health")
			return code == http.StatusServiceUnavailable
		})
		if strings.Contains(p.log.String(), `"level":"debug"`) {
			t.Errorf("--%s=%s: %s", flag, value, p.log)
		}
	}
}
