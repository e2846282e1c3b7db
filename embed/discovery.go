package embed

import (
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// DiscoveryConfig says in which registry a member finds the founding members of its cluster: the discovery-… flags.
type DiscoveryConfig struct {
	// ConfigSpec says how the discovery service is spoken to. A nil Secure connects without TLS where no address asks for it.
	clientv3.ConfigSpec
	// Token names the cluster in the registry.
	Token string
}

func fromDiscovery(d *config.Discovery) DiscoveryConfig {
	out := DiscoveryConfig{Token: d.Token, ConfigSpec: clientv3.ConfigSpec{
		Endpoints: slices.Clone(d.Endpoints), DialTimeout: d.DialTimeout, RequestTimeout: d.RequestTimeout,
		KeepAliveTime: d.KeepAliveTime, KeepAliveTimeout: d.KeepAliveTimeout,
		MaxCallSendMsgSize: d.MaxRequestBytes, MaxCallRecvMsgSize: d.MaxRecvBytes,
		Secure: &clientv3.SecureConfig{Cert: d.Cert, Key: d.Key, Cacert: d.CA, ServerName: d.ServerName,
			InsecureTransport: d.Insecure, InsecureSkipVerify: d.SkipVerify},
		Auth: &clientv3.AuthConfig{Username: d.User, Password: d.Password, Token: d.AuthToken}}}
	return out
}

// into takes what the configuration says, and leaves what is found by DNS as it is.
func (cfg *DiscoveryConfig) into(d *config.Discovery) {
	secure, auth := cfg.Secure, cfg.Auth
	if secure == nil {
		secure = &clientv3.SecureConfig{InsecureTransport: true}
	}
	if auth == nil {
		auth = &clientv3.AuthConfig{}
	}
	*d = config.Discovery{SRV: d.SRV, SRVName: d.SRVName,
		Token: cfg.Token, Endpoints: slices.Clone(cfg.Endpoints), DialTimeout: cfg.DialTimeout, RequestTimeout: cfg.RequestTimeout,
		KeepAliveTime: cfg.KeepAliveTime, KeepAliveTimeout: cfg.KeepAliveTimeout,
		MaxRequestBytes: cfg.MaxCallSendMsgSize, MaxRecvBytes: cfg.MaxCallRecvMsgSize,
		Insecure: secure.InsecureTransport, SkipVerify: secure.InsecureSkipVerify,
		Cert: secure.Cert, Key: secure.Key, CA: secure.Cacert, ServerName: secure.ServerName,
		User: auth.Username, Password: auth.Password, AuthToken: auth.Token}
}
