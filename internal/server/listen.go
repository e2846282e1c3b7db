package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// listenAll binds every address, or none.
func listenAll(ctx context.Context, cfg *config.Config) (forClients, forPeers []net.Listener, err error) {
	if forClients, err = listen(ctx, cfg, cfg.ListenClientURLs, "clients"); err != nil {
		return nil, nil, err
	}
	if forPeers, err = listen(ctx, cfg, cfg.ListenPeerURLs, "other members"); err != nil {
		return nil, nil, errors.Join(err, closeAll(forClients))
	}
	return forClients, forPeers, nil
}

// listen binds all addresses of a list, or none.
func listen(ctx context.Context, cfg *config.Config, urls config.URLs, who string) (ls []net.Listener, err error) {
	lc := cfg.ListenConfig()
	for i := range urls {
		network, address := target(&urls[i])
		l, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for %s: %w", who, err), closeAll(ls))
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// target says where a URL listens.
func target(u *url.URL) (network, address string) {
	if u.Scheme == "unix" || u.Scheme == "unixs" {
		return "unix", u.Host + u.Path
	}
	return "tcp", u.Host
}

func closeAll(ls []net.Listener) error {
	var errs []error
	for _, l := range ls {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
