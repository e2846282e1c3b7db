// Package config turns flags, ETCD_* variables and the YAML file into one validated Config.
//
// # The table
//
// Every setting is one row of the table (table*.go): its name, its place in the YAML file, its default, its
// help and its status. Flags, variables, the file, the help text and the tests are all made from those rows,
// so a later change that builds a setting edits one row.
//
// A row has one of two statuses. Built: it has an effect, and a field of Config carries it. Accepted: it
// tunes a part of etcd that Ashlar does not have, and no answer depends on it; it is taken, and a
// warning is logged.
//
// # Where a setting comes from
//
// Flags win over nothing: a flag and its variable given together are an error, as in etcd. With --config-file
// (or ETCD_CONFIG_FILE) the file is the only source; all other flags and variables are ignored. Unknown keys
// of the file are ignored and unknown ETCD_ variables are only logged, as etcd does.
//
// # What it refuses to do
//
// It touches no file but the configuration file, opens no log and no socket, reads no environment of its own
// (Parse is handed it) and logs nothing: what should be logged comes back as Notices. Config values are plain
// data; after Parse nothing here changes them, so they may be read from any goroutine.
package config

import (
	"log/slog"
	"path/filepath"
	"time"
)

// DefaultName is the name of a member that was given none.
const DefaultName = "default"

// Config is a validated configuration of one member. The zero value is not usable: take Default or Parse.
// Durations of zero mean what the field says; URL lists are sorted.
type Config struct {
	// Program is the name the program was called by: "ashlar" or "etcd". It decides the default data
	// directory and the wording of the version.
	Program string

	// Name is the member's human-readable name; it must stand in InitialCluster at bootstrap.
	Name string
	// DataDir is the data directory; never empty after Parse or Validate.
	DataDir string
	// WALDir is a directory of its own for the raft log, or empty: then it is inside DataDir.
	WALDir string

	// SnapshotCount is the number of applied entries after which etcd makes a snapshot. It has no effect here.
	SnapshotCount uint64
	// SnapshotCatchupEntries is the number of entries kept below the cut for slow followers.
	SnapshotCatchupEntries uint64
	// HeartbeatInterval is the length of one raft tick.
	HeartbeatInterval time.Duration
	// ElectionTimeout is how long a follower waits before it campaigns; at least 5 heartbeat intervals.
	ElectionTimeout time.Duration
	// PreVote turns raft's pre-vote phase on.
	PreVote bool
	// InitialElectionTickAdvance shortens the wait for the first election after a start.
	InitialElectionTickAdvance bool
	// RaftReadTimeout and RaftWriteTimeout are how long a connection between members may be silent, and how long a write into
	// one may take.
	RaftReadTimeout, RaftWriteTimeout time.Duration

	// ListenPeerURLs are the addresses that serve other members.
	ListenPeerURLs URLs
	// ListenClientURLs are the addresses that serve clients.
	ListenClientURLs URLs
	// ListenClientHTTPURLs are addresses for HTTP clients alone; empty: ListenClientURLs serve both.
	ListenClientHTTPURLs URLs
	// ListenMetricsURLs are further addresses for metrics and health.
	ListenMetricsURLs URLs
	// Metrics is "extensive" for histograms of gRPC calls among the metrics; anything else is without.
	Metrics string
	// EnablePprof serves profiles over HTTP.
	EnablePprof bool
	// AdvertisePeerURLs is what this member tells other members (--initial-advertise-peer-urls).
	AdvertisePeerURLs URLs
	// AdvertiseClientURLs is what this member tells clients, by MemberList.
	AdvertiseClientURLs URLs

	// InitialCluster is the list NAME=URL,NAME=URL… of the members at bootstrap; see InitialMembers. It is empty while
	// Discovery is to find them.
	InitialCluster string
	// Discovery says how they are found otherwise.
	Discovery Discovery
	// InitialClusterState is "new" or "existing". It matters only to a data directory not yet initialised.
	InitialClusterState string
	// StrictReconfigCheck refuses changes of the membership that could cost the quorum.
	StrictReconfigCheck bool
	// MaxLearners is the most learners that the cluster may have.
	MaxLearners int
	// ForceNewCluster makes a cluster of one of the data, whoever was in it before.
	ForceNewCluster bool
	// InitialClusterToken goes into the cluster id, so that clusters made from equal URLs differ.
	InitialClusterToken string

	// EnableGateway serves the JSON API over HTTP.
	EnableGateway bool
	// Origins are the origins of pages that browsers may send requests from; "*" is all.
	Origins []string
	// HostWhitelist holds the host names that HTTP requests without TLS may be addressed to; "*" or none is all.
	HostWhitelist []string

	// AuthToken says what tokens are: "simple", or "jwt" with options.
	AuthToken string
	// BcryptCost is the cost of hashing a password.
	BcryptCost uint
	// AuthTokenTTL is how long a simple token is good for that nobody uses, in seconds.
	AuthTokenTTL uint

	// QuotaBackendBytes is the quota as given: 0 is etcd's default of 2 GiB, below 0 none. See Quota.
	QuotaBackendBytes int64
	// MaxTxnOps is the number of operations that one transaction may hold.
	MaxTxnOps uint

	gates GateSet // see Gate
	// MaxRequestBytes is the size of the largest request that a client may send.
	MaxRequestBytes uint
	// MaxConcurrentStreams is the number of streams that one client connection may have open.
	MaxConcurrentStreams uint32

	// GRPCKeepAliveMinTime is the least time between two pings of a client; a faster one is disconnected.
	GRPCKeepAliveMinTime time.Duration
	// GRPCKeepAliveInterval is the time of silence after which the server pings a client; 0 disables it.
	GRPCKeepAliveInterval time.Duration
	// GRPCKeepAliveTimeout is how long an answer to that ping may take; 0 disables it.
	GRPCKeepAliveTimeout time.Duration
	// SocketReusePort and SocketReuseAddress are socket options of every listener; ListenConfig sets them.
	SocketReusePort, SocketReuseAddress bool

	// MemoryMlock keeps the pages of the process in memory.
	MemoryMlock bool

	// WatchProgressInterval is the time between progress messages of an idle watcher that asked for them.
	WatchProgressInterval time.Duration

	// CompactPeriod and CompactRevisions say how much history automatic compaction keeps: a time, or a number of
	// revisions. At most one is not 0 (--auto-compaction-mode and --auto-compaction-retention).
	CompactPeriod    time.Duration
	CompactRevisions int64

	// CorruptCheckTime is how often the leader compares all members' keys; 0 is never.
	CorruptCheckTime time.Duration
	// CompactHashCheckTime is how often it compares the hashes of compactions, if the gate CompactHashCheck is open.
	CompactHashCheckTime time.Duration

	// ClientTLS and PeerTLS are the TLS settings of the client addresses and of what goes on between members.
	ClientTLS, PeerTLS TLS
	// SelfSignedCertValidity is how many years a certificate that is made at start is valid.
	SelfSignedCertValidity uint
	// CipherSuites may be used below TLS 1.3, on both sides; none is Go's choice.
	CipherSuites []uint16
	// TLSMinVersion and TLSMaxVersion bound the version of TLS, on both sides; 0 leaves it to the library.
	TLSMinVersion, TLSMaxVersion uint16

	// WarningUnaryRequestDuration is the time of one unary request above which a warning is logged.
	WarningUnaryRequestDuration time.Duration
	// WarningApplyDuration is the time of applying a group of entries above which a warning is logged.
	WarningApplyDuration time.Duration
	// UnsafeNoFsync acknowledges writes before they are on disk. A power cut then loses data.
	UnsafeNoFsync bool

	// LogOutputs are "default", "stdout", "stderr" or file paths; at least one.
	LogOutputs []string
	// LogLevel is the least severe level that is logged: debug, info, warn, error, panic or fatal.
	LogLevel string
	// LogFormat is "json" or "console".
	LogFormat string
	// LogRotation is set when the single log file is to be rotated.
	LogRotation *LogRotation

	// Tracing says where traces of requests are sent.
	Tracing Tracing

	// AuditLog says where requests are written down.
	AuditLog AuditLog

	// Notices are what a reader of the log should know about this configuration. The caller logs them
	// once the log is open.
	Notices []Notice

	// settings that end up in other fields, or are only checked.
	configFile        string
	version           bool
	logger            string
	enableLogRotation bool
	logRotationJSON   string
	compactionMode    string
	cipherSuites      []string
	tlsMinVersion     string
	tlsMaxVersion     string

	compactionRetention string
	discoveryFallback   string
}

// LogRotation says when a log file is closed and the next one begun. Its JSON is the value of
// --log-rotation-config-json.
type LogRotation struct {
	// MaxSize is the size in megabytes at which a file is rotated.
	MaxSize int `json:"maxsize"`
	// MaxAge is the number of days that rotated files are kept; 0 keeps them for ever.
	MaxAge int `json:"maxage"`
	// MaxBackups is the number of rotated files that are kept; 0 keeps all.
	MaxBackups int `json:"maxbackups"`
	// LocalTime uses local time instead of UTC in the names of rotated files.
	LocalTime bool `json:"localtime"`
	// Compress packs rotated files with gzip.
	Compress bool `json:"compress"`
}

// Notice is something to be logged once there is a log.
type Notice struct {
	// Level is the level to log at.
	Level slog.Level
	// Message is the line, in lower case and without a final stop.
	Message string
	// Attrs are its fields.
	Attrs []slog.Attr
}

// quotaDefault is etcd's backend quota when none is given.
const quotaDefault = 2 << 30

// catchupDefault is etcd's.
const catchupDefault = 5000

// KeepsLogForAbsent tells whether the log keeps more than SnapshotCatchupEntries while another member is away: who asks for another number than
// the default gets exactly that many.
func (c *Config) KeepsLogForAbsent() bool { return c.SnapshotCatchupEntries == catchupDefault }

// Joins tells whether the member joins a cluster that is there already, at its first start.
func (c *Config) Joins() bool { return c.InitialClusterState == stateExisting }

// Quota returns the backend quota in bytes: QuotaBackendBytes with 0 replaced by the default of 2 GiB.
// A value below 0 means that there is no quota.
func (c *Config) Quota() int64 {
	if c.QuotaBackendBytes == 0 {
		return quotaDefault
	}
	return c.QuotaBackendBytes
}

// ElectionTicks returns the election timeout in ticks of HeartbeatInterval.
func (c *Config) ElectionTicks() int {
	return int(c.ElectionTimeout / c.HeartbeatInterval)
}

// IdentityFile returns the file whose presence tells that DataDir holds a member (docs/format/data-dir.md).
func (c *Config) IdentityFile() string {
	return filepath.Join(c.DataDir, "ashlar", "IDENTITY")
}

// Default returns the configuration that a program of that name ("ashlar" or "etcd") has without any
// setting. DataDir and InitialCluster are empty until Validate fills them in. The caller may change fields and
// then call Validate.
func Default(program string) Config {
	c := Config{Program: program}
	for _, f := range table {
		f.reset(f.bind(&c))
	}
	return c
}
