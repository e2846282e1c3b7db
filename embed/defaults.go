package embed

import (
	"math"
	"time"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// Values of settings.
const (
	ClusterStateFlagNew      = "new"
	ClusterStateFlagExisting = "existing"

	CompactorModePeriodic = "periodic"
	CompactorModeRevision = "revision"

	DefaultLogOutput = "default"
	StdErrLogOutput  = "stderr"
	StdOutLogOutput  = "stdout"
	JournalLogOutput = "systemd/journal"

	ServerFeatureGateFlagName = "feature-gates"
)

// Defaults of settings: what NewConfig returns holds them.
const (
	DefaultName = config.DefaultName

	DefaultListenPeerURLs           = "http://localhost:2380"
	DefaultListenClientURLs         = "http://localhost:2379"
	DefaultInitialAdvertisePeerURLs = DefaultListenPeerURLs
	DefaultAdvertiseClientURLs      = DefaultListenClientURLs

	DefaultMaxTxnOps                   = uint(128)
	DefaultMaxRequestBytes             = 1.5 * 1024 * 1024
	DefaultMaxConcurrentStreams        = math.MaxUint32
	DefaultGRPCKeepAliveMinTime        = 5 * time.Second
	DefaultGRPCKeepAliveInterval       = 2 * time.Hour
	DefaultGRPCKeepAliveTimeout        = 20 * time.Second
	DefaultStrictReconfigCheck         = true
	DefaultAutoCompactionMode          = CompactorModePeriodic
	DefaultAutoCompactionRetention     = "0"
	DefaultCompactHashCheckTime        = time.Minute
	DefaultAuthToken                   = "simple"
	DefaultTLSMinVersion               = "TLS1.2"
	DefaultSelfSignedCertValidity      = 1
	DefaultWarningApplyDuration        = 100 * time.Millisecond
	DefaultWarningUnaryRequestDuration = 300 * time.Millisecond
	DefaultLoggingFormat               = "json"
	DefaultLogRotationConfig           = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

	DefaultDistributedTracingAddress     = "localhost:4317"
	DefaultDistributedTracingServiceName = "etcd"

	DefaultDiscoveryDialTimeout       = 2 * time.Second
	DefaultDiscoveryRequestTimeOut    = 5 * time.Second
	DefaultDiscoveryKeepAliveTime     = 2 * time.Second
	DefaultDiscoveryKeepAliveTimeOut  = 6 * time.Second
	DefaultDiscoveryInsecureTransport = true

	DefaultMaxSnapshots       = 5
	DefaultMaxWALs            = 5
	DefaultDowngradeCheckTime = 5 * time.Second
)

// Errors that Config.Validate, StartEtcd and ConfigFromFile may wrap.
var (
	ErrConflictBootstrapFlags       = config.ErrDiscoveryConflict
	ErrUnsetAdvertiseClientURLsFlag = config.ErrAdvertiseClientURLs
	ErrLogRotationInvalidLogOutput  = config.ErrRotationOutput
)
