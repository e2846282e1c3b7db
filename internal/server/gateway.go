package server

import (
	"errors"
	"net"
	"net/http"

	"google.golang.org/grpc"

	"github.com/ashlar-kv/ashlar/internal/config"
	"github.com/ashlar-kv/ashlar/internal/rpc"
	"github.com/ashlar-kv/ashlar/internal/web"
)

// gateway is the JSON API of a member, and the connection inside the process that it calls the services by. A nil gateway is one
// that is turned off.
type gateway struct {
	listener net.Listener // to be served by the gRPC server
	conn     *grpc.ClientConn
	web      *web.Gateway
}

// newGateway returns the gateway that cfg asks for.
func newGateway(cfg *config.Config) (*gateway, error) {
	if !cfg.EnableGateway {
		return nil, nil
	}
	l, conn, err := rpc.Local()
	if err != nil {
		return nil, err
	}
	w, err := web.NewGateway(web.GatewayOptions{Conn: conn, MaxRequestBytes: int(cfg.MaxRequestBytes), Origins: cfg.Origins})
	if err != nil {
		return nil, errors.Join(err, conn.Close(), l.Close())
	}
	return &gateway{listener: l, conn: conn, web: w}, nil
}

// handler returns the gateway for web.Options.
func (g *gateway) handler() http.Handler {
	if g == nil {
		return nil
	}
	return g.web
}

// end ends what does not end by itself when the services stop.
func (g *gateway) end() {
	if g != nil {
		g.web.Close()
	}
}

// close closes the connection, after the last request.
func (g *gateway) close() error {
	if g == nil {
		return nil
	}
	return errors.Join(g.conn.Close(), g.listener.Close())
}
