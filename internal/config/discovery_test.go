package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDiscoveryIsTheOnlyWayToFindTheMembers(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		args []string
		want string
	}{
		"records and a list":         {[]string{"--discovery-srv=x", "--initial-cluster=a=http://127.0.0.1:1"}, ErrDiscoveryConflict.Error()},
		"a registry and a list":      {[]string{"--discovery-token=t", "--discovery-endpoints=e", "--initial-cluster=a=http://127.0.0.1:1"}, ErrDiscoveryConflict.Error()},
		"records and a registry":     {[]string{"--discovery-srv=x", "--discovery-token=t", "--discovery-endpoints=e"}, ErrDiscoveryConflict.Error()},
		"a token without a registry": {[]string{"--discovery-token=t"}, errDiscoveryHalf.Error()},
		"a registry without a token": {[]string{"--discovery-endpoints=e"}, errDiscoveryHalf.Error()},
		"another fallback than exit": {[]string{"--discovery-fallback=restart"}, "invalid value"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Parse("etcd", c.args, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestSettingsOfDiscoveryReachTheConfiguration(t *testing.T) {
	t.Parallel()
	c, err := Parse("etcd", []string{"--discovery-token=t", "--discovery-endpoints=a:1,b:2", "--discovery-dial-timeout=3s",
		"--discovery-request-timeout=4s", "--discovery-keepalive-time=7s", "--discovery-keepalive-timeout=8s", "--discovery-insecure-transport=false",
		"--discovery-insecure-skip-tls-verify", "--discovery-cert=c", "--discovery-key=k", "--discovery-cacert=ca",
		"--discovery-user=u", "--discovery-password=p"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Discovery
	if !d.Wanted() || d.Token != "t" || !slices.Equal(d.Endpoints, []string{"a:1", "b:2"}) || d.DialTimeout != 3*time.Second ||
		d.RequestTimeout != 4*time.Second || d.KeepAliveTime != 7*time.Second || d.KeepAliveTimeout != 8*time.Second || d.Insecure ||
		!d.SkipVerify || d.Cert != "c" || d.Key != "k" || d.CA != "ca" || d.User != "u" || d.Password != "p" {
		t.Errorf("got %+v", d)
	}
	if c.InitialCluster != "" {
		t.Errorf("there is an initial cluster before it was found: %s", c.InitialCluster)
	}
	if err := c.CheckBootstrap(t.Context()); err != nil {
		t.Errorf("what is yet to be found is refused: %v", err)
	}
	c.Found("default=http://localhost:2380")
	if c.Discovery.Wanted() || c.InitialClusterToken != "t" {
		t.Errorf("after it was found: %+v, token %s", c.Discovery, c.InitialClusterToken)
	}
	if err := c.CheckBootstrap(t.Context()); err != nil {
		t.Error(err)
	}
}
