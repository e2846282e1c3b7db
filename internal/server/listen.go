package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// listen binds every client address, or none.
func listen(ctx context.Context, cfg *config.Config) (ls []net.Listener, err error) {
	lc := cfg.ListenConfig()
	for i := range cfg.ListenClientURLs {
		network, address := target(&cfg.ListenClientURLs[i])
		l, err := lc.Listen(ctx, network, address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for clients: %w", err), closeAll(ls))
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
