package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"syscall"

	"github.com/ashlar-kv/ashlar/internal/config"
)

// listeners are all that a member listens on.
type listeners struct {
	clients, peers []net.Listener
	plain          plainListeners
}

func (l *listeners) close() error {
	return errors.Join(closeAll(l.clients), closeAll(l.peers), l.plain.close())
}

// listenAll binds every address that is not lent, or none.
func (x *lending) listenAll(ctx context.Context, cfg *config.Config) (l listeners, err error) {
	if l.clients, l.peers, err = x.listen(ctx, cfg); err != nil {
		return l, err
	}
	if l.plain, err = listenPlain(ctx, cfg); err != nil {
		err = errors.Join(err, closeAll(l.clients), closeAll(l.peers))
	}
	return l, err
}

// Listen binds every address of clients and of other members, or none. The listeners carry no TLS yet.
func Listen(ctx context.Context, cfg *config.Config) (forClients, forPeers []net.Listener, err error) {
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
		if errors.Is(err, syscall.EADDRINUSE) && network == "unix" && left(ctx, address) {
			l, err = lc.Listen(ctx, network, address)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for %s: %w", who, err), closeAll(ls))
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// left removes a socket that a process left behind which was killed, and tells whether it did. One that somebody
// listens on stays.
func left(ctx context.Context, path string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return false
	}
	info, statErr := os.Lstat(path)
	return errors.Is(err, syscall.ECONNREFUSED) && statErr == nil && info.Mode().Type() == fs.ModeSocket && os.Remove(path) == nil
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
