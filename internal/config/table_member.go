package config

// What planned settings wait for; the words are those of docs/compatibility.md.
const (
	waitsDiscovery  = "discovery"
	waitsMembership = "membership changes"
	waitsTracing    = "tracing"
	waitsMemory     = "memory locking"
)

// Why accepted settings have no effect here.
const (
	noCount  = "the log is cut below what the state has on disk, not after a number of entries"
	noBbolt  = "the state is not kept in bbolt"
	noFiles  = "the log is one database that is cut by range, not a row of files"
	noPurge  = "there are no snapshot files to keep"
	noDefrag = "there is nothing to defragment: the storage compacts itself"
	noPacing = "compaction deletes only what was superseded and paces itself"
	noV2     = "there is no v2 store"
)

var memberFlags = []Flag{
	{Name: "name", Group: Member, Key: "name", Default: DefaultName,
		Usage: "Name of this member, for people.",
		bind:  func(c *Config) value { return text(&c.Name) }},
	{Name: "data-dir", Group: Member, Key: "data-dir",
		Usage: "Data directory; empty means ${name}.ashlar, or ${name}.etcd under the name etcd.",
		bind:  func(c *Config) value { return text(&c.DataDir) }},
	{Name: "wal-dir", Group: Member, Key: "wal-dir",
		Usage: "Directory of its own for the raft log; empty means inside the data directory.",
		bind:  func(c *Config) value { return text(&c.WALDir) }},
	{Name: "snapshot-count", Group: Member, Key: "snapshot-count", Default: "10000",
		Usage:  "Number of applied entries after which etcd makes a snapshot.",
		Status: Accepted, Note: noCount,
		bind: func(c *Config) value { return unsigned(&c.SnapshotCount) }},
	{Name: "heartbeat-interval", Group: Member, Key: "heartbeat-interval", Default: "100",
		Usage: "Time between two heartbeats of a leader, in milliseconds.",
		bind:  func(c *Config) value { return milliseconds(&c.HeartbeatInterval) }},
	{Name: "election-timeout", Group: Member, Key: "election-timeout", Default: "1000",
		Usage: "Time without a leader after which a member campaigns, in milliseconds.",
		bind:  func(c *Config) value { return milliseconds(&c.ElectionTimeout) }},
	{Name: "initial-election-tick-advance", Group: Member, Key: "initial-election-tick-advance", Default: "true",
		Usage: "Shorten the wait for the first election after a start, once other members are connected.",
		bind:  func(c *Config) value { return boolean(&c.InitialElectionTickAdvance) }},
	{Name: "listen-peer-urls", Group: Member, Key: "listen-peer-urls", Default: defaultPeerURL,
		Usage: "Addresses for other members, separated by commas.",
		bind:  func(c *Config) value { return urls(&c.ListenPeerURLs) }},
	{Name: "listen-client-urls", Group: Member, Key: "listen-client-urls", Default: defaultClientURL,
		Usage: "Addresses for clients, separated by commas.",
		bind:  func(c *Config) value { return urls(&c.ListenClientURLs) }},
	{Name: "listen-client-http-urls", Group: Member, Key: "listen-client-http-urls",
		Usage: "Addresses for HTTP clients alone; the other client addresses then serve gRPC alone.",
		bind:  func(c *Config) value { return urls(&c.ListenClientHTTPURLs) }},
	{Name: "max-snapshots", Group: Member, Key: "max-snapshots", Default: "5",
		Usage:  "Number of snapshot files that etcd keeps.",
		Status: Accepted, Note: noPurge, bind: spare(unsigned[uint])},
	{Name: "max-wals", Group: Member, Key: "max-wals", Default: "5",
		Usage:  "Number of log files that etcd keeps.",
		Status: Accepted, Note: noFiles, bind: spare(unsigned[uint])},
	{Name: "memory-mlock", Group: Member, Key: "memory-mlock", Default: "false",
		Usage:  "Keep the process's pages in memory.",
		Status: Planned, Note: waitsMemory, bind: spare(boolean)},
	{Name: "quota-backend-bytes", Group: Member, Key: "quota-backend-bytes", Default: "0",
		Usage: "Size in bytes at which the state refuses to grow; 0 means 2 GiB, below 0 no limit.",
		bind:  func(c *Config) value { return integer(&c.QuotaBackendBytes) }},
	{Name: "backend-bbolt-freelist-type", Group: Member, Key: "backend-bbolt-freelist-type", Default: "map",
		Usage:  "Kind of free list in etcd's bbolt file.",
		Status: Accepted, Note: noBbolt, bind: spare(text)},
	{Name: "backend-batch-interval", Group: Member, Key: "backend-batch-interval", Default: "0s",
		Usage:  "Longest time before etcd commits its bbolt transaction.",
		Status: Accepted, Note: noBbolt, bind: spare(duration)},
	{Name: "backend-batch-limit", Group: Member, Key: "backend-batch-limit", Default: "0",
		Usage:  "Most operations before etcd commits its bbolt transaction.",
		Status: Accepted, Note: noBbolt, bind: spare(integer[int])},
	{Name: "max-txn-ops", Group: Member, Key: "max-txn-ops", Default: "128",
		Usage: "Most operations in one transaction.",
		bind:  func(c *Config) value { return unsigned(&c.MaxTxnOps) }},
	{Name: "max-request-bytes", Group: Member, Key: "max-request-bytes", Default: "1572864",
		Usage: "Size in bytes of the largest request of a client.",
		bind:  func(c *Config) value { return unsigned(&c.MaxRequestBytes) }},
	{Name: "max-concurrent-streams", Group: Member, Key: "max-concurrent-streams", Default: "4294967295",
		Usage: "Most streams that one client connection may have open.",
		bind:  func(c *Config) value { return unsigned32(&c.MaxConcurrentStreams) }},
	{Name: "grpc-keepalive-min-time", Group: Member, Key: "grpc-keepalive-min-time", Default: "5s",
		Usage: "Least time between two pings of a client.",
		bind:  func(c *Config) value { return duration(&c.GRPCKeepAliveMinTime) }},
	{Name: "grpc-keepalive-interval", Group: Member, Key: "grpc-keepalive-interval", Default: "2h",
		Usage: "Time of silence after which the server pings a client; 0 disables it.",
		bind:  func(c *Config) value { return duration(&c.GRPCKeepAliveInterval) }},
	{Name: "grpc-keepalive-timeout", Group: Member, Key: "grpc-keepalive-timeout", Default: "20s",
		Usage: "Time for the answer to such a ping before the connection is closed; 0 disables it.",
		bind:  func(c *Config) value { return duration(&c.GRPCKeepAliveTimeout) }},
	{Name: "socket-reuse-port", Group: Member, Key: "socket-options.reuse-port", Default: "false",
		Usage: "Set SO_REUSEPORT on listeners.",
		bind:  func(c *Config) value { return boolean(&c.SocketReusePort) }},
	{Name: "socket-reuse-address", Group: Member, Key: "socket-options.reuse-address", Default: "false",
		Usage: "Set SO_REUSEADDR on listeners.",
		bind:  func(c *Config) value { return boolean(&c.SocketReuseAddress) }},
	{Name: "enable-grpc-gateway", Group: Member, Key: "enable-grpc-gateway", Default: "true",
		Usage: "Serve the JSON API over HTTP.",
		bind:  func(c *Config) value { return boolean(&c.EnableGateway) }},
	{Name: "raft-read-timeout", Group: Member, Default: "5s",
		Usage: "Time limit for reading on a connection between members.",
		bind:  func(c *Config) value { return duration(&c.RaftReadTimeout) }},
	{Name: "raft-write-timeout", Group: Member, Default: "5s",
		Usage: "Time limit for writing on a connection between members.",
		bind:  func(c *Config) value { return duration(&c.RaftWriteTimeout) }},
	{Name: "feature-gates", Group: Member, Key: "feature-gates",
		Usage: "Feature gates of etcd, NAME=true|false separated by commas.",
		waits: (*Config).unbuiltGate, bind: func(c *Config) value { return gates(&c.gates) }},
}
