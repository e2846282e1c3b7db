package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/ashlar-kv/ashlar/internal/tlsconf"
)

const (
	// connectTimeout bounds the making of a connection to a member, and redialMax the pause before it is tried again.
	connectTimeout, redialMax = 5 * time.Second, 3 * time.Second
	// A connection whose other side is gone without a word is given up after silence, when nothing comes back to checks of the
	// operating system, whatever the flags say of pings.
	silence, silenceCheck, silenceChecks = 15 * time.Second, 5 * time.Second, 3
)

// upstreamSettings say how members are reached.
type upstreamSettings struct {
	endpoints        []string
	tls              *tlsconf.Source // nil: the endpoints say whether there is TLS
	sendMax, recvMax int             // bytes of a message
	pingTime         time.Duration   // 0: no pings
	pingTimeout      time.Duration
	pingIdle         bool
}

// upstream is a connection to each of the members. Requests go to them in turn.
type upstream struct {
	*grpc.ClientConn
	addresses *manual.Resolver
	endpoints atomic.Pointer[[]string]
}

// connect makes the connections, in the background.
func connect(s upstreamSettings) (*upstream, error) {
	state, secure, err := resolve(s.endpoints)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if secure || s.tls != nil && !plain(s.endpoints[0]) {
		creds = &freshTLS{source: s.tls}
	}
	addresses := manual.NewBuilderWithScheme("endpoints")
	addresses.InitialState(state)
	options := []grpc.DialOption{
		grpc.WithResolvers(addresses), grpc.WithTransportCredentials(creds), grpc.WithContextDialer(dialEndpoint), grpc.WithNoProxy(),
		grpc.WithDisableRetry(), grpc.WithIdleTimeout(0), grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: connectTimeout,
			Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax}}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec()), grpc.MaxCallSendMsgSize(orMost(s.sendMax)), grpc.MaxCallRecvMsgSize(orMost(s.recvMax))),
	}
	if s.pingTime > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: s.pingTime, Timeout: s.pingTimeout, PermitWithoutStream: s.pingIdle}))
	}
	conn, err := grpc.NewClient("endpoints:///"+state.Addresses[0].ServerName, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	conn.Connect()
	u := &upstream{ClientConn: conn, addresses: addresses}
	u.endpoints.Store(&s.endpoints)
	return u, nil
}

// members returns the endpoints that requests go to; they must not be changed.
func (u *upstream) members() []string { return *u.endpoints.Load() }

// move makes requests go to other endpoints from now on.
func (u *upstream) move(endpoints []string) error {
	state, _, err := resolve(endpoints)
	if err != nil {
		return err
	}
	u.endpoints.Store(&endpoints)
	u.addresses.UpdateState(state)
	return nil
}

func orMost(n int) int {
	if n <= 0 {
		return math.MaxInt32
	}
	return n
}

// plain tells whether an endpoint is one without TLS, whatever else is given.
func plain(endpoint string) bool { return strings.HasPrefix(endpoint, "http://") }

// resolve returns where endpoints lead, which have the forms that etcd's clients know, and whether they demand TLS.
func resolve(endpoints []string) (state resolver.State, secure bool, err error) {
	for _, e := range endpoints {
		address, name := e, e
		scheme, rest, isURL := strings.Cut(e, ":")
		switch {
		case isURL && (scheme == "unix" || scheme == "unixs"):
			address, name = "unix:"+strings.TrimPrefix(rest, "//"), path.Base(rest)
		case strings.Contains(e, "://"):
			u, err := url.Parse(e)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return state, false, fmt.Errorf("error parsing endpoint %q", e)
			}
			address, name = u.Host, u.Host
		}
		if address == "" {
			return state, false, errors.New("an endpoint is empty")
		}
		secure = secure || scheme == "https" || scheme == "unixs"
		state.Addresses = append(state.Addresses, resolver.Address{Addr: address, ServerName: name})
	}
	if len(state.Addresses) == 0 {
		return state, false, errNoEndpoints
	}
	return state, secure, nil
}

// dialEndpoint connects to an address that resolve has made.
func dialEndpoint(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: silenceCheck, Count: silenceChecks}}
	if file, ok := strings.CutPrefix(address, "unix:"); ok {
		return d.DialContext(ctx, "unix", file)
	}
	return d.DialContext(ctx, "tcp", address)
}

// freshTLS makes each connection with the newest certificates.
type freshTLS struct{ source *tlsconf.Source }

// ClientHandshake implements credentials.TransportCredentials.
func (f *freshTLS) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(f.config()).ClientHandshake(ctx, authority, c)
}

func (f *freshTLS) config() *tls.Config {
	if f.source == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return f.source.Client()
}

// ServerHandshake implements credentials.TransportCredentials.
func (*freshTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are of a client")
}

// Info implements credentials.TransportCredentials.
func (*freshTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (f *freshTLS) Clone() credentials.TransportCredentials { return f }

// OverrideServerName implements credentials.TransportCredentials.
func (*freshTLS) OverrideServerName(string) error { return errors.New("the endpoint says the name") }
