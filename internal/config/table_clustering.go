package config

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
	{Name: "initial-cluster-state", Group: Clustering, Key: "initial-cluster-state", Default: "new",
		Usage: "'new' to bootstrap a cluster, 'existing' to join one. Ignored once the member is initialised.",
		bind: func(c *Config) value {
			return choice(&c.InitialClusterState, invalidValue, "new", "existing")
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
			return choice(p, invalidNamed, "write-only", "write-only-skip-check", "write-only-drop-data", "gone")
		})},
}

var discoveryFlags = []Flag{
	planned("discovery-token", Clustering, "discovery-config.token", "", waitsDiscovery, spare(text),
		"Token of the cluster at the discovery service."),
	planned("discovery-endpoints", Clustering, "discovery-config.client.endpoints", "", waitsDiscovery, spare(words),
		"Addresses of the discovery service."),
	planned("discovery-dial-timeout", Clustering, "discovery-config.client.dial-timeout", "2s", waitsDiscovery,
		spare(duration), "Time limit for connecting to the discovery service."),
	planned("discovery-request-timeout", Clustering, "discovery-config.client.request-timeout", "5s", waitsDiscovery,
		spare(duration), "Time limit for a request to the discovery service."),
	planned("discovery-keepalive-time", Clustering, "discovery-config.client.keepalive-time", "2s", waitsDiscovery,
		spare(duration), "Time between pings to the discovery service."),
	planned("discovery-keepalive-timeout", Clustering, "discovery-config.client.keepalive-timeout", "6s",
		waitsDiscovery, spare(duration), "Time limit for the answer to such a ping."),
	planned("discovery-insecure-transport", Clustering, "discovery-config.client.secure.insecure-transport", "true",
		waitsDiscovery, spare(boolean), "Connect to the discovery service without TLS."),
	planned("discovery-insecure-skip-tls-verify", Clustering, "discovery-config.client.secure.insecure-skip-tls-verify",
		"false", waitsDiscovery, spare(boolean), "Do not verify the certificate of the discovery service."),
	planned("discovery-cert", Clustering, "discovery-config.client.secure.cert", "", waitsDiscovery, spare(text),
		"Client certificate for the discovery service."),
	planned("discovery-key", Clustering, "discovery-config.client.secure.key", "", waitsDiscovery, spare(text),
		"Key of that certificate."),
	planned("discovery-cacert", Clustering, "discovery-config.client.secure.cacert", "", waitsDiscovery, spare(text),
		"CA certificates that the discovery service is verified with."),
	planned("discovery-user", Clustering, "discovery-config.client.auth.username", "", waitsDiscovery, spare(text),
		"User at the discovery service."),
	planned("discovery-password", Clustering, "discovery-config.client.auth.password", "", waitsDiscovery, spare(text),
		"Password of that user."),
	planned("discovery-fallback", Clustering, "", "exit", waitsDiscovery,
		spare(func(p *string) value { return choice(p, invalidValue, "exit") }),
		"What happens when discovery fails; only 'exit'."),
	planned("discovery-srv", Clustering, "discovery-srv", "", waitsDiscovery, spare(text),
		"DNS domain whose SRV records name the members."),
	planned("discovery-srv-name", Clustering, "discovery-srv-name", "", waitsDiscovery, spare(text),
		"Suffix of the SRV service name."),
}

// planned makes a row of a setting that is not built yet.
func planned(name string, g Group, key, def, waits string, bind func(*Config) value, usage string) Flag {
	return Flag{Name: name, Group: g, Key: key, Default: def, Usage: usage, Status: Planned, Note: waits, bind: bind}
}
