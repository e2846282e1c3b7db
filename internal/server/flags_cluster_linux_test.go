package server

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
)

// clusterProofs are of how a member finds its cluster, and of what it tells others of itself.
var clusterProofs = map[string]proof{
	"initial-advertise-peer-urls": ofSelf(func(m *clientMember) string { return strings.Join(m.PeerURLs, ",") }, "http://127.0.0.1:7"),
	"advertise-client-urls":       ofSelf(func(m *clientMember) string { return strings.Join(m.ClientURLs, ",") }, "http://client.example:1"),
	"initial-cluster": func(t *testing.T, l *flagLab, name string) {
		cfg := parsed(t, "--name=a", "--"+name+"=b=http://127.0.0.1:1")
		want := `couldn't find local name "a" in the initial cluster configuration`
		if err := cfg.CheckBootstrap(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a cluster without the member: %v", err)
		}
		other, c := newStand(t), newPacedClock()
		x := l.solo(t, Host{Clock: c}, besides(t, other)...)
		ticksToElection(t, x, c, 100*time.Millisecond, 2)
		eventually(t, "the other founder is asked for its vote", func() bool { return other.polls.Load() > 0 })
	},
	"initial-cluster-token": func(t *testing.T, l *flagLab, _ string) {
		ic, err := cluster.ParseInitialCluster(l.cfg.InitialCluster)
		if err != nil {
			t.Fatal(err)
		}
		for token, same := range map[string]bool{"token": true, "etcd-cluster": false} {
			f, err := cluster.Found(ic, token)
			if err != nil || (uint64(f.ID()) == l.member.ClusterID()) != same {
				t.Errorf("with %s: %v, %v", token, f.ID(), err)
			}
		}
	},
	"initial-cluster-state": func(t *testing.T, _ *flagLab, name string) {
		cfg := parsed(t, "--"+name+"=existing", "--data-dir="+t.TempDir(), "--initial-cluster=default=http://localhost:2380,b=http://127.0.0.1:1",
			"--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1", "--listen-peer-urls=http://127.0.0.1:0")
		err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "cannot fetch cluster info from peer urls") {
			t.Errorf("got %v", err)
		}
	},
	"config-file": func(t *testing.T, l *flagLab, name string) {
		write(t, l.path("c.yaml"), "name: other\n")
		if cfg := parsed(t, "--"+name+"="+l.path("c.yaml"), "--name=ignored"); cfg.Name != "other" {
			t.Errorf("the name is %q", cfg.Name)
		}
	},
	"version": func(t *testing.T, _ *flagLab, name string) {
		if _, err := config.Parse("ashlar", []string{"--" + name}, nil); !errors.Is(err, config.ErrVersion) {
			t.Errorf("got %v", err)
		}
	},
}

// provesRegistry has a member register under a token of its own.
func provesRegistry(t *testing.T, l *flagLab, name string) {
	place := "/_etcd/registry/" + name + "/"
	if _, err := l.client.Put(t.Context(), place+"_config/size", "1"); err != nil {
		t.Fatal(err)
	}
	cfg := parsed(t, "--name=x", "--data-dir="+t.TempDir(), "--initial-advertise-peer-urls=http://127.0.0.1:8",
		"--discovery-token="+name, "--discovery-endpoints=unix://"+l.path("client"))
	if err := discover(t.Context(), &cfg, net.DefaultResolver, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	got, err := l.client.Get(t.Context(), place+"members/", clientv3.WithPrefix())
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "x=http://127.0.0.1:8" {
		t.Errorf("registered: %v, %v", got, err)
	}
	if cfg.InitialCluster != "x=http://127.0.0.1:8" || cfg.InitialClusterToken != name {
		t.Errorf("found %q with %q", cfg.InitialCluster, cfg.InitialClusterToken)
	}
}

// provesRecords finds a member by the records of a domain, with and without a suffix of the service.
func provesRecords(t *testing.T, _ *flagLab, _ string) {
	for suffix, service := range map[string]string{"": "etcd-server", "s": "etcd-server-s"} {
		cfg := parsed(t, "--name=x", "--data-dir="+t.TempDir(), "--initial-advertise-peer-urls=http://127.0.0.1:8",
			"--discovery-srv=example.test", "--discovery-srv-name="+suffix)
		dns := records{service + ".example.test": {{Target: "127.0.0.1.", Port: 8}}}
		if err := discover(t.Context(), &cfg, dns, slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("with %q: %v", suffix, err)
		}
		if found := strings.Split(cfg.InitialCluster, ","); !slices.Contains(found, "x=http://127.0.0.1:8") {
			t.Errorf("with %q: found %q", suffix, found)
		}
	}
}
