package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/clock"
	"github.com/ashlar-kv/ashlar/internal/cluster"
	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/discovery"
)

// discover fills in the founding members of a cluster that are to be found by DNS or in a registry. A member that is
// initialised knows its cluster: nothing is asked then, as in etcd.
func discover(ctx context.Context, cfg *config.Config, r discovery.Resolver, log *slog.Logger) error {
	own := pairs(cfg)
	switch {
	case !cfg.Discovery.Wanted():
		return nil
	case cfg.Initialised():
		log.Warn("discovery is ignored since the cluster is already initialized", "data-dir", cfg.DataDir)
		cfg.Found(own)
		return nil
	case cfg.Discovery.SRV != "":
		found, err := fromDNS(ctx, cfg, r)
		if err != nil {
			return fmt.Errorf("discovery failed: error setting up initial cluster: %w", err)
		}
		log.Info("found the cluster by DNS", "domain", cfg.Discovery.SRV, "initial-cluster", found)
		cfg.Found(found)
	default:
		found, err := fromRegistry(ctx, cfg, own, log)
		if err != nil {
			return fmt.Errorf("failed to join discovery cluster (%w)", err)
		}
		log.Info("found the cluster in the registry", "initial-cluster", found)
		cfg.Found(found)
	}
	return cfg.CheckBootstrap(ctx)
}

// pairs returns this member alone in the form of --initial-cluster.
func pairs(cfg *config.Config) string {
	urls := cfg.AdvertisePeerURLs.Strings()
	for i := range urls {
		urls[i] = cfg.Name + "=" + urls[i]
	}
	return strings.Join(urls, ",")
}

func fromDNS(ctx context.Context, cfg *config.Config, r discovery.Resolver) (string, error) {
	self := discovery.Self{Name: cfg.Name, PeerURLs: cfg.AdvertisePeerURLs}
	found, err := discovery.Servers(ctx, r, cfg.Discovery.SRV, cfg.Discovery.SRVName, self)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(strings.Split(found, ","), func(m string) bool { return strings.HasPrefix(m, cfg.Name+"=") }) {
		return "", fmt.Errorf("cannot find local etcd member %q in SRV records", cfg.Name)
	}
	return found, nil
}

// fromRegistry registers under the id that the member would have if it were alone in the cluster: it depends on nothing but
// its addresses and the token.
func fromRegistry(ctx context.Context, cfg *config.Config, own string, log *slog.Logger) (found string, err error) {
	ic, err := cluster.ParseInitialCluster(own)
	if err != nil {
		return "", err
	}
	alone, err := cluster.Found(ic, cfg.Discovery.Token)
	if err != nil {
		return "", err
	}
	self, _ := alone.ByName(cfg.Name)
	r, err := discovery.OpenRegistry(&cfg.Discovery, clock.Real(), log)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.Join(ctx, self.ID.String(), own)
}
