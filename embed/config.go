package embed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// Config holds the settings of a member. The tag of a field is the flag of the command line that it stands for, where
// ashlar --help and docs/compatibility.md say more; an empty list of addresses is none. [Config.Set] sets what has no field.
//
// A Config is made by NewConfig or ConfigFromFile and then changed. It must not be changed while StartEtcd reads it; a member that
// runs has a copy.
type Config struct {
	// Name is the member's name in InitialCluster, Dir its data directory, by default NAME.ashlar, and WalDir a directory of its own
	// for the log.
	Name   string `flag:"name"`
	Dir    string `flag:"data-dir"`
	WalDir string `flag:"wal-dir"`

	// What the member listens on, and what others and clients are told to dial.
	ListenPeerUrls       []url.URL `flag:"listen-peer-urls"`
	ListenClientUrls     []url.URL `flag:"listen-client-urls"`
	ListenClientHttpUrls []url.URL `flag:"listen-client-http-urls"`
	ListenMetricsUrls    []url.URL `flag:"listen-metrics-urls"`
	AdvertisePeerUrls    []url.URL `flag:"initial-advertise-peer-urls"`
	AdvertiseClientUrls  []url.URL `flag:"advertise-client-urls"`

	// PeerListeners and ClientListeners are used in place of listeners of the member's own: one for each of ListenPeerUrls and of
	// ListenClientUrls, in their order, or none. The member puts TLS on those whose URL asks for it, and closes all of them when it
	// ends, or does not start.
	PeerListeners, ClientListeners []net.Listener

	// ClientTLSInfo and PeerTLSInfo name the files of certificates; AutoTLS makes them at start.
	ClientTLSInfo          transport.TLSInfo
	PeerTLSInfo            transport.TLSInfo
	ClientAutoTLS          bool     `flag:"auto-tls"`
	PeerAutoTLS            bool     `flag:"peer-auto-tls"`
	SelfSignedCertValidity uint     `flag:"self-signed-cert-validity"`
	CipherSuites           []string `flag:"cipher-suites"`
	TlsMinVersion          string   `flag:"tls-min-version"`
	TlsMaxVersion          string   `flag:"tls-max-version"`

	// The founding members. An empty InitialCluster is this member alone, unless discovery is to find them.
	InitialCluster        string `flag:"initial-cluster"`
	InitialClusterToken   string `flag:"initial-cluster-token"`
	ClusterState          string `flag:"initial-cluster-state"`
	DNSCluster            string `flag:"discovery-srv"`
	DNSClusterServiceName string `flag:"discovery-srv-name"`
	DiscoveryCfg          DiscoveryConfig
	StrictReconfigCheck   bool `flag:"strict-reconfig-check"`
	MaxLearners           int  `flag:"max-learners"`
	ForceNewCluster       bool `flag:"force-new-cluster"`

	// Consensus: the times are milliseconds.
	TickMs                     uint   `flag:"heartbeat-interval"`
	ElectionMs                 uint   `flag:"election-timeout"`
	InitialElectionTickAdvance bool   `flag:"initial-election-tick-advance"`
	PreVote                    bool   `flag:"pre-vote"`
	SnapshotCatchUpEntries     uint64 `flag:"snapshot-catchup-entries"`

	// Limits.
	QuotaBackendBytes     int64         `flag:"quota-backend-bytes"`
	MaxTxnOps             uint          `flag:"max-txn-ops"`
	MaxRequestBytes       uint          `flag:"max-request-bytes"`
	MaxConcurrentStreams  uint32        `flag:"max-concurrent-streams"`
	GRPCKeepAliveMinTime  time.Duration `flag:"grpc-keepalive-min-time"`
	GRPCKeepAliveInterval time.Duration `flag:"grpc-keepalive-interval"`
	GRPCKeepAliveTimeout  time.Duration `flag:"grpc-keepalive-timeout"`

	// How much history is kept, how often members are compared, and how often an idle watcher is told of progress.
	AutoCompactionMode          string        `flag:"auto-compaction-mode"`
	AutoCompactionRetention     string        `flag:"auto-compaction-retention"`
	CorruptCheckTime            time.Duration `flag:"corrupt-check-time"`
	CompactHashCheckTime        time.Duration `flag:"compact-hash-check-time"`
	WatchProgressNotifyInterval time.Duration `flag:"watch-progress-notify-interval"`

	// Users and what HTTP clients may do.
	AuthToken         string              `flag:"auth-token"`
	BcryptCost        uint                `flag:"bcrypt-cost"`
	AuthTokenTTL      uint                `flag:"auth-token-ttl"`
	EnableGRPCGateway bool                `flag:"enable-grpc-gateway"`
	CORS              map[string]struct{} `flag:"cors"`
	HostWhitelist     map[string]struct{} `flag:"host-whitelist"`

	// SlogLogger takes all that the member logs. Without one, the settings below say where the log goes.
	SlogLogger *slog.Logger
	// ZapLoggerBuilder is called when the member starts, with a copy of the configuration that it may change: NewZapLoggerBuilder.
	ZapLoggerBuilder func(*Config) error

	// ServerFeatureGate holds the feature gates, open or shut.
	ServerFeatureGate *FeatureGate `flag:"feature-gates"`

	// UserHandlers are served on the addresses of HTTP clients, by their paths, which may be patterns of net/http.ServeMux.
	UserHandlers map[string]http.Handler
	// ServiceRegister adds gRPC services of the program's own. It is called again when the member begins anew with a rebuilt state.
	ServiceRegister func(*grpc.Server)
	// GRPCAdditionalServerOptions are given to the gRPC server besides the member's own: interceptors, by grpc.ChainUnaryInterceptor and
	// grpc.ChainStreamInterceptor, come after those of the member. Credentials and codecs must not be among them.
	GRPCAdditionalServerOptions []grpc.ServerOption

	Logger                      string        `flag:"logger"`
	LogLevel                    string        `flag:"log-level"`
	LogFormat                   string        `flag:"log-format"`
	LogOutputs                  []string      `flag:"log-outputs"`
	EnableLogRotation           bool          `flag:"enable-log-rotation"`
	LogRotationConfigJSON       string        `flag:"log-rotation-config-json"`
	WarningApplyDuration        time.Duration `flag:"warning-apply-duration"`
	WarningUnaryRequestDuration time.Duration `flag:"warning-unary-request-duration"`

	// What is measured and traced.
	Metrics                                  string `flag:"metrics"`
	EnablePprof                              bool   `flag:"enable-pprof"`
	EnableDistributedTracing                 bool   `flag:"enable-distributed-tracing"`
	DistributedTracingAddress                string `flag:"distributed-tracing-address"`
	DistributedTracingServiceName            string `flag:"distributed-tracing-service-name"`
	DistributedTracingServiceInstanceID      string `flag:"distributed-tracing-instance-id"`
	DistributedTracingSamplingRatePerMillion int    `flag:"distributed-tracing-sampling-rate"`

	// SocketOpts are those of the listeners that the member makes.
	SocketOpts transport.SocketOpts
	// UnsafeNoFsync acknowledges writes before they are on disk, which is for tests.
	UnsafeNoFsync bool `flag:"unsafe-no-fsync"`
	// MemoryMlock keeps the memory of the whole process from being swapped out.
	MemoryMlock bool `flag:"memory-mlock"`

	// These tune parts of etcd that there are not here. They are checked, and values other than the defaults are warned about.
	SnapshotCount                     uint64        `flag:"snapshot-count"`
	MaxSnapFiles                      uint          `flag:"max-snapshots"`
	MaxWalFiles                       uint          `flag:"max-wals"`
	BackendBatchInterval              time.Duration `flag:"backend-batch-interval"`
	BackendBatchLimit                 int           `flag:"backend-batch-limit"`
	BackendFreelistType               string        `flag:"backend-bbolt-freelist-type"`
	BootstrapDefragThresholdMegabytes uint          `flag:"bootstrap-defrag-threshold-megabytes"`
	CompactionBatchLimit              int           `flag:"compaction-batch-limit"`
	CompactionSleepInterval           time.Duration `flag:"compaction-sleep-interval"`
	DowngradeCheckTime                time.Duration `flag:"downgrade-check-time"`

	// base holds what has no field. It is never changed, since copies of a Config share it.
	base *config.Config
}

// program is what the member is called by itself: it decides the default of Dir.
const program = "ashlar"

// NewConfig returns a configuration with every default.
func NewConfig() *Config {
	c := config.Default(program)
	return fromSettings(&c)
}

// ConfigFromFile reads a configuration file as --config-file does, of etcd's or ours. Errors name the file.
func ConfigFromFile(path string) (*Config, error) {
	if path == "" {
		return nil, errors.New("embed: the configuration file has no name")
	}
	c, err := config.Parse(program, []string{"--config-file=" + path}, nil)
	if err != nil {
		return nil, fmt.Errorf("embed: %w", err)
	}
	return fromSettings(&c), nil
}

// Set gives any setting the value that a flag, named without dashes, would give it. Errors name the flag.
func (cfg *Config) Set(flag, text string) error {
	c, err := cfg.settings()
	if err == nil {
		err = c.Set(flag, text)
	}
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	fresh := fromSettings(&c)
	fresh.PeerListeners, fresh.ClientListeners, fresh.SlogLogger = cfg.PeerListeners, cfg.ClientListeners, cfg.SlogLogger
	fresh.ZapLoggerBuilder, fresh.UserHandlers, fresh.ServiceRegister = cfg.ZapLoggerBuilder, cfg.UserHandlers, cfg.ServiceRegister
	fresh.GRPCAdditionalServerOptions = cfg.GRPCAdditionalServerOptions
	*cfg = *fresh
	return nil
}

// Validate says what is wrong with the configuration, if anything, in the words of the command line's flags. It touches no file.
func (cfg *Config) Validate() error {
	_, err := cfg.validated()
	return err
}

// validated returns the settings, complete and checked.
func (cfg *Config) validated() (config.Config, error) {
	c, err := cfg.settings()
	if err != nil {
		return c, fmt.Errorf("embed: %w", err)
	}
	if c.InitialCluster == "" && !c.Discovery.Wanted() {
		c.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("embed: %w", err)
	}
	if len(c.ListenClientURLs) > 0 && len(c.AdvertiseClientURLs) == 0 {
		return c, fmt.Errorf("embed: %w", ErrUnsetAdvertiseClientURLsFlag)
	}
	c.Notices = once(c.Notices)
	return c, errors.Join(cfg.checkHandlers(), cfg.checkOptions())
}

// checkHandlers refuses patterns that cannot be served.
func (cfg *Config) checkHandlers() error {
	return refused("UserHandlers", func() {
		mux := http.NewServeMux()
		for pattern, h := range cfg.UserHandlers {
			mux.Handle(pattern, h)
		}
	})
}

// checkOptions refuses options that the member's own do not leave room for.
func (cfg *Config) checkOptions() error {
	return refused("GRPCAdditionalServerOptions", func() {
		grpc.NewServer(slices.Concat([]grpc.ServerOption{
			grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, nil }),
			grpc.StreamInterceptor(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return nil }),
		}, cfg.GRPCAdditionalServerOptions)...).Stop()
	})
}

// refused makes an error of a panic, with which libraries refuse what they are given.
func refused(field string, try func()) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("embed: %s: %v", field, reason)
		}
	}()
	try()
	return nil
}

// once leaves out what was said before: a configuration that was read from a file has been validated there.
func once(all []config.Notice) (out []config.Notice) {
	said := map[string]bool{}
	for _, n := range all {
		if key := fmt.Sprint(n); !said[key] {
			said[key] = true
			out = append(out, n)
		}
	}
	return out
}

// InitialClusterFromName returns what InitialCluster is for a cluster of this member alone, under that name.
func (cfg *Config) InitialClusterFromName(name string) string {
	if name == "" {
		name = DefaultName
	}
	var pairs []string
	for i := range cfg.AdvertisePeerUrls {
		pairs = append(pairs, name+"="+cfg.AdvertisePeerUrls[i].String())
	}
	return strings.Join(pairs, ",")
}

// IsNewCluster tells whether the member is to found a cluster, and not to join one.
func (cfg *Config) IsNewCluster() bool { return cfg.ClusterState == ClusterStateFlagNew }

// ElectionTicks returns the election timeout in ticks of TickMs.
func (cfg *Config) ElectionTicks() int { return int(cfg.ElectionMs / max(cfg.TickMs, 1)) }

// clone returns a copy that shares no list or map which a caller may change.
func (cfg *Config) clone() *Config {
	c := *cfg
	c.eachField(func(_ string, field any) {
		switch p := field.(type) {
		case *[]url.URL:
			*p = slices.Clone(*p)
		case *[]string:
			*p = slices.Clone(*p)
		case *map[string]struct{}:
			*p = maps.Clone(*p)
		case **FeatureGate:
			*p = (*p).DeepCopy()
		}
	})
	c.GRPCAdditionalServerOptions = slices.Clone(c.GRPCAdditionalServerOptions)
	c.UserHandlers = maps.Clone(c.UserHandlers)
	return &c
}
