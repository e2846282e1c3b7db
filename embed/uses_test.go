package embed_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/ashlar-kv/ashlar/embed"
)

// The programs below do with a member what programs that embed etcd do with it; but for its imports none would look otherwise there.

// TestADistributionRunsAMemberFromAFile is a program that writes etcd's configuration file, and watches over the member.
func TestADistributionRunsAMemberFromAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	clients, client := listen()
	peers, peer := listen()
	text := fmt.Sprintf(`advertise-client-urls: %[1]s
client-transport-security: {}
data-dir: %[3]s/db
election-timeout: 5000
feature-gates: InitialCorruptCheck=true
heartbeat-interval: 500
initial-advertise-peer-urls: %[2]s
initial-cluster: server-0=%[2]s
initial-cluster-state: new
initial-election-tick-advance: true
listen-client-urls: %[1]s
listen-metrics-urls: http://127.0.0.1:0
listen-peer-urls: %[2]s
log-outputs:
- %[3]s/log
logger: zap
name: server-0
peer-transport-security: {}
snapshot-count: 10000
watch-progress-notify-interval: 5000000000
`, &client[0], &peer[0], dir)
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := embed.ConfigFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientListeners, cfg.PeerListeners = clients, peers // so that nobody takes the ports
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		select {
		case err := <-etcd.Server.ErrNotify(): // of a fork: the member was removed
			ended <- err
		case <-ctx.Done():
			etcd.Close()
			ended <- nil
		case <-etcd.Server.StopNotify():
			ended <- errors.New("it stopped")
		case err := <-etcd.Err():
			ended <- err
		}
	}()
	await(t, "readiness", etcd.Server.ReadyNotify())
	if cfg.WatchProgressNotifyInterval != 5*time.Second || !cfg.ServerFeatureGate.Enabled(embed.InitialCorruptCheck) || cfg.ElectionTicks() != 10 {
		t.Errorf("read as %+v", cfg)
	}
	if got := fetch(t, client[0].String()+"/health?serializable=true"); !strings.Contains(got, `"health":"true"`) {
		t.Errorf("its health is %q", got)
	}
	cancel()
	if err := await(t, "the end", ended); err != nil {
		t.Error(err)
	}
}

// TestATestOfAProgramHasAMemberOfItsOwn is what the tests of an API server do.
func TestATestOfAProgramHasAMemberOfItsOwn(t *testing.T) {
	t.Parallel()
	cfg := embed.NewConfig()
	cfg.UnsafeNoFsync = true
	cfg.PeerListeners, cfg.ListenPeerUrls = listen()
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.ClientListeners, cfg.ListenClientUrls = listen()
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop().Named("etcd-server"))
	cfg.Dir = t.TempDir()
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(patience):
		e.Server.Stop()
		t.Fatal("server took too long to start")
	}
	var tls = transport.TLSInfo{CertFile: cfg.ClientTLSInfo.CertFile, KeyFile: cfg.ClientTLSInfo.KeyFile, TrustedCAFile: cfg.ClientTLSInfo.TrustedCAFile}
	if !tls.Empty() {
		t.Error("nobody asked for certificates")
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: e.Server.Cluster().ClientURLs(), DialTimeout: patience, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	put(t, c, "k", "v")
	if got := get(t, client(t, e), "k"); got != "v" {
		t.Errorf("inside of the process there is %q", got)
	}
}

// TestASchedulerLooksAfterItsMember: services, interceptors, gates and limits of a program's own.
func TestASchedulerLooksAfterItsMember(t *testing.T) {
	t.Parallel()
	cfg := onFreePorts(t, "m1")
	seen := make(chan string, 1)
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			select {
			case seen <- info.FullMethod:
			default:
			}
			return next(ctx, req)
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: embed.DefaultGRPCKeepAliveInterval, Timeout: embed.DefaultGRPCKeepAliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: embed.DefaultGRPCKeepAliveMinTime}),
	}
	cfg.ServiceRegister = func(*grpc.Server) {}
	cfg.UserHandlers = map[string]http.Handler{"/own": http.NotFoundHandler()}
	cfg.MaxRequestBytes, cfg.QuotaBackendBytes = 10*embed.DefaultMaxRequestBytes, 1<<30
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	cfg.StrictReconfigCheck = embed.DefaultStrictReconfigCheck
	if err := cfg.ServerFeatureGate.SetFromMap(map[string]bool{string(embed.CompactHashCheck): true}); err != nil {
		t.Fatal(err)
	}
	e := start(t, cfg)
	await(t, "readiness", e.Server.ReadyNotify())
	put(t, client(t, e), "k", "v")
	if method := await(t, "the interceptor", seen); method != "/etcdserverpb.KV/Put" {
		t.Errorf("the interceptor saw %s", method)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := e.Server.LinearizableReadNotify(ctx); err != nil {
		t.Error(err)
	}
	id := e.Server.ID()
	if !e.Server.FeatureEnabled(embed.CompactHashCheck) || e.Server.FeatureEnabled(embed.LeaseCheckpoint) ||
		e.Server.RequestTimeout() != 7*time.Second || id != e.Server.MemberID() || e.Server.Lead() != uint64(id) ||
		!e.Server.IsMemberExist(id) || e.Server.IsMemberExist(id+1) || e.Server.IsIDRemoved(uint64(id)) ||
		e.Server.Cluster().Member(id).Name != "m1" || e.Server.Cluster().Member(id+1) != nil {
		t.Error("the member is not what was asked for")
	}
	select {
	case <-e.Server.StoppingNotify():
		t.Error("nobody stops it")
	default:
	}
	e.Close()
	await(t, "the word that it stops", e.Server.StoppingNotify())
}

// TestLeadershipIsMovedAndFollowed also ends a leader without a word to the others.
func TestLeadershipIsMovedAndFollowed(t *testing.T) {
	t.Parallel()
	configs := []*embed.Config{onFreePorts(t, "m1"), onFreePorts(t, "m2"), onFreePorts(t, "m3")}
	var pairs []string
	for _, cfg := range configs {
		pairs = append(pairs, cfg.InitialClusterFromName(cfg.Name))
	}
	var members []*embed.Etcd
	for _, cfg := range configs {
		cfg.InitialCluster = strings.Join(pairs, ",")
		members = append(members, start(t, cfg))
	}
	for _, e := range members {
		await(t, "readiness", e.Server.ReadyNotify())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var leads *embed.Etcd
	for from := (embed.ID)(0); leads == nil; { // another election may come in between on a busy machine
		leads = leader(ctx, t, members, from)
		others := slices.DeleteFunc(slices.Clone(members), func(e *embed.Etcd) bool { return e == leads })
		told := others[0].Server.LeaderChangedNotify()
		if err := others[1].Server.MoveLeader(ctx, uint64(leads.Server.MemberID()), uint64(others[1].Server.MemberID())); err == nil {
			t.Fatal("a member moved the leadership of another one")
		}
		if err := leads.Server.MoveLeader(ctx, leads.Server.Lead(), uint64(others[0].Server.MemberID())); err != nil {
			t.Log(err)
			leads = nil
			continue
		}
		await(t, "the change of leader", told)
	}
	leads = leader(ctx, t, members, 0)
	leads.Server.HardStop()
	noError(t, leads)
	rest := slices.DeleteFunc(slices.Clone(members), func(e *embed.Etcd) bool { return e == leads })
	leader(ctx, t, rest, leads.Server.MemberID())
	put(t, client(t, rest[0]), "k", "v")
}

// leader waits until a member among these leads, another one than that with the ID not.
func leader(ctx context.Context, t *testing.T, members []*embed.Etcd, not embed.ID) *embed.Etcd {
	t.Helper()
	for {
		changed := members[0].Server.LeaderChangedNotify()
		lead := members[0].Server.Leader()
		for _, e := range members {
			if e.Server.MemberID() == lead && lead != not {
				return e
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("there is no leader")
		}
	}
}

func TestFeatureGates(t *testing.T) {
	t.Parallel()
	cfg := embed.NewConfig()
	g := cfg.ServerFeatureGate
	if g.Enabled(embed.CompactHashCheck) || !g.Enabled(embed.FastLeaseKeepAlive) || g.Enabled("Unknown") || g.String() != "" || len(g.KnownFeatures()) != 11 {
		t.Errorf("the defaults are %q, of %v", g, g.KnownFeatures())
	}
	if !slices.Contains(g.KnownFeatures(), "LeaseCheckpoint=true|false (ALPHA - default=false)") {
		t.Errorf("there are %v", g.KnownFeatures())
	}
	if err := g.Set("CompactHashCheck=true"); err != nil {
		t.Fatal(err)
	}
	other := g.DeepCopy()
	if err := other.Set("AllAlpha=true,CompactHashCheck=false"); err != nil {
		t.Fatal(err)
	}
	if err := g.Set("LeaseCheckpoint=true,Unknown=true"); err == nil || g.String() != "CompactHashCheck=true" || !other.Enabled(embed.LeaseCheckpoint) ||
		other.Enabled(embed.CompactHashCheck) {
		t.Errorf("%v; %q and %q", err, g, other)
	}
	if err := cfg.Set(embed.ServerFeatureGateFlagName, "LeaseCheckpoint=true"); err != nil || cfg.ServerFeatureGate.String() != "LeaseCheckpoint=true" {
		t.Errorf("%v; %q", err, cfg.ServerFeatureGate)
	}
	if g = nil; g.Enabled(embed.CompactHashCheck) || !g.Enabled(embed.FastLeaseKeepAlive) {
		t.Error("no gates are not the defaults")
	}
}

// TestConstantsAreTheDefaults of a configuration that nobody changed.
func TestConstantsAreTheDefaults(t *testing.T) {
	t.Parallel()
	c := embed.NewConfig()
	for name, same := range map[string]bool{
		"transactions": c.MaxTxnOps == embed.DefaultMaxTxnOps, "requests": c.MaxRequestBytes == embed.DefaultMaxRequestBytes,
		"streams":         c.MaxConcurrentStreams == embed.DefaultMaxConcurrentStreams,
		"keepalive":       c.GRPCKeepAliveMinTime == embed.DefaultGRPCKeepAliveMinTime && c.GRPCKeepAliveInterval == embed.DefaultGRPCKeepAliveInterval && c.GRPCKeepAliveTimeout == embed.DefaultGRPCKeepAliveTimeout,
		"reconfiguration": c.StrictReconfigCheck == embed.DefaultStrictReconfigCheck,
		"compaction":      c.AutoCompactionMode == embed.DefaultAutoCompactionMode && c.AutoCompactionRetention == embed.DefaultAutoCompactionRetention,
		"hashes":          c.CompactHashCheckTime == embed.DefaultCompactHashCheckTime, "tokens": c.AuthToken == embed.DefaultAuthToken,
		"TLS":       c.TlsMinVersion == embed.DefaultTLSMinVersion && c.SelfSignedCertValidity == embed.DefaultSelfSignedCertValidity,
		"warnings":  c.WarningApplyDuration == embed.DefaultWarningApplyDuration && c.WarningUnaryRequestDuration == embed.DefaultWarningUnaryRequestDuration,
		"log":       c.LogFormat == embed.DefaultLoggingFormat && c.LogRotationConfigJSON == embed.DefaultLogRotationConfig,
		"tracing":   c.DistributedTracingAddress == embed.DefaultDistributedTracingAddress && c.DistributedTracingServiceName == embed.DefaultDistributedTracingServiceName,
		"discovery": c.DiscoveryCfg.DialTimeout == embed.DefaultDiscoveryDialTimeout && c.DiscoveryCfg.RequestTimeout == embed.DefaultDiscoveryRequestTimeOut && c.DiscoveryCfg.KeepAliveTime == embed.DefaultDiscoveryKeepAliveTime && c.DiscoveryCfg.KeepAliveTimeout == embed.DefaultDiscoveryKeepAliveTimeOut && c.DiscoveryCfg.Secure.InsecureTransport == embed.DefaultDiscoveryInsecureTransport,
		"files":     c.MaxSnapFiles == embed.DefaultMaxSnapshots && c.MaxWalFiles == embed.DefaultMaxWALs && c.DowngradeCheckTime == embed.DefaultDowngradeCheckTime,
	} {
		if !same {
			t.Errorf("a constant of %s is not the default", name)
		}
	}
}

func TestErrorsOfSettingsAreTold(t *testing.T) {
	t.Parallel()
	cfg := embed.NewConfig()
	cfg.InitialCluster, cfg.DNSCluster = "a=http://127.0.0.1:1", "example.com"
	if err := cfg.Validate(); !errors.Is(err, embed.ErrConflictBootstrapFlags) {
		t.Error(err)
	}
	cfg = embed.NewConfig()
	cfg.EnableLogRotation = true
	if err := cfg.Validate(); !errors.Is(err, embed.ErrLogRotationInvalidLogOutput) {
		t.Error(err)
	}
	cfg = embed.NewConfig()
	cfg.AdvertiseClientUrls = nil
	if err := cfg.Validate(); !errors.Is(err, embed.ErrUnsetAdvertiseClientURLsFlag) {
		t.Error(err)
	}
	cfg = embed.NewConfig()
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		})}
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "GRPCAdditionalServerOptions") {
		t.Errorf("an interceptor in place of the member's own: %v", err)
	}
}
