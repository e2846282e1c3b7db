package config

import "time"

// The values of --initial-cluster-state and --discovery-fallback.
const (
	stateNew, stateExisting     = "new", "existing"
	fallbackExit, fallbackProxy = "exit", "proxy"
)

const (
	defaultPeerURL   = "http://localhost:2380"
	defaultClientURL = "http://localhost:2379"
)

var clusteringFlags = []Flag{
	{Name: "initial-advertise-peer-urls", Group: Clustering, Key: "initial-advertise-peer-urls", Default: defaultPeerURL,
		Usage: "Addresses by which other members reach this one.",
		bind:  func(c *Config) value { return urls(&c.AdvertisePeerURLs) }},
	{Name: "initial-cluster", Group: Clustering, Key: "initial-cluster",
		Usage: "Members at bootstrap, NAME=URL separated by commas; empty means this member alone.",
		bind:  func(c *Config) value { return text(&c.InitialCluster) }},
	{Name: "initial-cluster-state", Group: Clustering, Key: "initial-cluster-state", Default: stateNew,
		Usage: "'new' to bootstrap a cluster, 'existing' to join one. Ignored once the member is initialised.",
		bind: func(c *Config) value {
			return orAnything(choice(&c.InitialClusterState, invalidValue, stateNew, stateExisting))
		}},
	{Name: "initial-cluster-token", Group: Clustering, Key: "initial-cluster-token", Default: "etcd-cluster",
		Usage: "Token that keeps clusters made from equal addresses apart.",
		bind:  func(c *Config) value { return text(&c.InitialClusterToken) }},
	{Name: "advertise-client-urls", Group: Clustering, Key: "advertise-client-urls", Default: defaultClientURL,
		Usage: "Addresses by which clients reach this member.",
		bind:  func(c *Config) value { return urls(&c.AdvertiseClientURLs) }},
	{Name: "strict-reconfig-check", Group: Clustering, Key: "strict-reconfig-check", Default: "true",
		Usage: "Refuse membership changes that would lose the quorum.",
		bind:  func(c *Config) value { return boolean(&c.StrictReconfigCheck) }},
	{Name: "pre-vote", Group: Clustering, Key: "pre-vote", Default: "true",
		Usage: "Ask before campaigning, so that a member that was cut off does not disturb the leader.",
		bind:  func(c *Config) value { return boolean(&c.PreVote) }},
	{Name: "auto-compaction-retention", Group: Clustering, Key: "auto-compaction-retention", Default: "0",
		Usage: "How much history automatic compaction keeps, a time or a number of hours or revisions; 0 disables it.",
		bind:  func(c *Config) value { return text(&c.compactionRetention) }},
	{Name: "auto-compaction-mode", Group: Clustering, Key: "auto-compaction-mode", Default: "periodic",
		Usage: "'periodic' keeps a time of history, 'revision' a number of revisions.",
		bind:  func(c *Config) value { return text(&c.compactionMode) }},
	{Name: "v2-deprecation", Group: Clustering, Key: "v2-deprecation", Default: "write-only",
		Usage:  "Phase of the removal of etcd's v2 store.",
		Status: Accepted, Note: noV2,
		bind: spare(func(p *string) value {
			return orAnything(choice(p, invalidNamed, "write-only", "write-only-skip-check", "write-only-drop-data", "gone"))
		})},
}

// The section of the file that holds the settings of the discovery service.
const discoveryClient = "discovery-config.client."

var discoveryFlags = []Flag{
	ofDiscovery("discovery-token", "discovery-config.token", "", text, func(d *Discovery) *string { return &d.Token },
		"Token of the cluster at the discovery service."),
	ofDiscovery("discovery-endpoints", discoveryClient+"endpoints", "", words, func(d *Discovery) *[]string { return &d.Endpoints },
		"Addresses of the discovery service."),
	ofDiscovery("discovery-dial-timeout", discoveryClient+"dial-timeout", "2s", duration,
		func(d *Discovery) *time.Duration { return &d.DialTimeout }, "Time limit for connecting to the discovery service."),
	ofDiscovery("discovery-request-timeout", discoveryClient+"request-timeout", "5s", duration,
		func(d *Discovery) *time.Duration { return &d.RequestTimeout }, "Time limit for a request to the discovery service."),
	ofDiscovery("discovery-keepalive-time", discoveryClient+"keepalive-time", "2s", duration,
		func(d *Discovery) *time.Duration { return &d.KeepAliveTime }, "Time between pings to the discovery service."),
	ofDiscovery("discovery-keepalive-timeout", discoveryClient+"keepalive-timeout", "6s", duration,
		func(d *Discovery) *time.Duration { return &d.KeepAliveTimeout }, "Time limit for the answer to such a ping."),
	ofDiscovery("discovery-insecure-transport", discoveryClient+"secure.insecure-transport", "true", boolean,
		func(d *Discovery) *bool { return &d.Insecure }, "Connect to the discovery service without TLS."),
	ofDiscovery("discovery-insecure-skip-tls-verify", discoveryClient+"secure.insecure-skip-tls-verify", "false", boolean,
		func(d *Discovery) *bool { return &d.SkipVerify }, "Do not verify the certificate of the discovery service."),
	ofDiscovery("discovery-cert", discoveryClient+"secure.cert", "", text, func(d *Discovery) *string { return &d.Cert },
		"Client certificate for the discovery service."),
	ofDiscovery("discovery-key", discoveryClient+"secure.key", "", text, func(d *Discovery) *string { return &d.Key },
		"Key of that certificate."),
	ofDiscovery("discovery-cacert", discoveryClient+"secure.cacert", "", text, func(d *Discovery) *string { return &d.CA },
		"CA certificates that the discovery service is verified with."),
	ofDiscovery("discovery-user", discoveryClient+"auth.username", "", text, func(d *Discovery) *string { return &d.User },
		"User at the discovery service."),
	secret(ofDiscovery("discovery-password", discoveryClient+"auth.password", "", text, func(d *Discovery) *string { return &d.Password },
		"Password of that user.")),
	{Name: "discovery-fallback", Group: Clustering, Default: fallbackExit,
		Usage: "What happens when discovery fails; only 'exit'.",
		bind:  func(c *Config) value { return choice(&c.discoveryFallback, invalidValue, fallbackExit, fallbackProxy) }},
	ofDiscovery("discovery-srv", "discovery-srv", "", text, func(d *Discovery) *string { return &d.SRV },
		"DNS domain whose SRV records name the members."),
	ofDiscovery("discovery-srv-name", "discovery-srv-name", "", text, func(d *Discovery) *string { return &d.SRVName },
		"Suffix of the SRV service name."),
}

// secret is a setting that is not told to readers of the log.
func secret(f Flag) Flag {
	f.Secret = true
	return f
}

func ofDiscovery[T any](name, key, def string, make func(*T) value, field func(*Discovery) *T, usage string) Flag {
	return Flag{Name: name, Group: Clustering, Key: key, Default: def, Usage: usage,
		bind: func(c *Config) value { return make(field(&c.Discovery)) }}
}
